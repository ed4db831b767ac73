"""The command line of the edge: what it prints, and one line with exit code 1 for everything that is wrong."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from duch.bundle import Gate, read_bundle
from duch.cli import main
from duch.encoder import Encoder
from duch.gallery import Gallery

from .resigned import TINY, resigned

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (30, 40, 200), "grey": (128, 128, 128)}


def duch(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fails(result: Result, *words: str) -> None:
    """It said one line on stderr with these words, and ended with 1."""
    assert result.exit_code == 1, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("duch: ")
    for word in words:
        assert word in lines[0]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(3):
            shade = tuple(min(255, value + 9 * number) for value in colour)
            Image.new("RGB", (40, 36), shade).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def gallery(images: Path, tmp_path: Path) -> Path:
    assert duch("index", TINY, images, tmp_path / "gallery").exit_code == 0
    return tmp_path / "gallery"


def test_encode_prints_the_codes_of_sentences_and_images(images: Path) -> None:
    image = images / "red" / "0.png"
    result = duch("encode", TINY, "--text", "a river", "--image", image)
    encoder = Encoder(TINY)
    expected = [encoder.encode_texts(["a river"]), encoder.encode_images([image])]
    assert result.stdout == f"{expected[0].tobytes().hex()}  a river\n{expected[1].tobytes().hex()}  {image}\n"


def test_encode_writes_json_and_npy(tmp_path: Path) -> None:
    content = json.loads(duch("encode", TINY, "--text", "a river", "--json").stdout)
    assert content["n_bits"] == 32
    assert content["fingerprint"] == read_bundle(TINY).fingerprint
    assert duch("encode", TINY, "--text", "a river", "--npy", tmp_path / "codes").exit_code == 0
    codes = np.load(tmp_path / "codes", allow_pickle=False)
    assert codes.tobytes().hex() == content["codes"][0]["code"]
    fails(duch("encode", TINY), "wanted --text or --image")


def test_index_codes_a_tree_and_a_second_run_only_what_changed(images: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    assert "12 added, 0 unchanged" in duch("index", TINY, images, gallery).stdout
    assert "0 added, 12 unchanged" in duch("index", TINY, images, gallery).stdout
    Image.new("RGB", (50, 50), "white").save(images / "new.png")
    Image.new("RGB", (50, 50), "black").save(images / "red" / "0.png")
    (images / "blue" / "1.png").unlink()
    report = json.loads(duch("index", TINY, images, gallery, "--json").stdout)
    assert (report["added"], report["replaced"], report["unchanged"], report["missing"]) == (1, 1, 10, 1)
    assert "1 removed" in duch("index", TINY, images, gallery, "--prune").stdout
    with Gallery.open(gallery) as opened:
        assert len(opened) == 12


def test_index_reports_what_it_skips(images: Path, tmp_path: Path) -> None:
    (images / "text.png").write_text("no image")
    (images / "empty.jpg").write_bytes(b"")
    whole = (images / "red" / "0.png").read_bytes()
    (images / "cut.png").write_bytes(whole[: len(whole) // 2])
    (images / "line\nbreak.png").write_text("no image either")
    (images / "notes.txt").write_text("not looked at")
    result = duch("index", TINY, images, tmp_path / "gallery")
    assert result.exit_code == 0
    assert "12 added" in result.stdout
    assert "4 skipped" in result.stdout
    skips = [line for line in result.stderr.splitlines() if line.startswith("skipped")]
    assert len(skips) == 4, result.stderr
    assert all(len(line.split(": ", 1)[1]) > 10 for line in skips)


def test_search_prints_hits_by_distance_and_the_tile_itself_first(gallery: Path, images: Path) -> None:
    result = duch("search", gallery, "--image", images / "green" / "2.png", "-k", 3)
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["rank", "distance", "id"]
    assert len(lines) == 4
    hits = json.loads(duch("search", gallery, "--image", images / "green" / "2.png", "--json").stdout)["hits"]
    assert hits[0]["distance"] == 0
    assert {hit["id"] for hit in hits if hit["distance"] == 0} >= {"green/2.png"}
    assert [hit["distance"] for hit in hits] == sorted(hit["distance"] for hit in hits)
    assert len(hits) == 10


def test_search_by_words_draws_a_sheet(gallery: Path, tmp_path: Path) -> None:
    result = duch("search", gallery, "a river", "-k", 5, "--sheet", tmp_path / "out.png")
    assert result.exit_code == 0
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.width > 600


def test_a_gallery_of_images_and_sentences_is_searched_in_either(gallery: Path, tmp_path: Path) -> None:
    lines = [{"text": "a wide river", "id": "r", "source": "hand"}, {"text": "two planes"}, {"text": ""}, "no object"]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = duch("index", TINY, gallery, "--texts", tmp_path / "t.jsonl")
    assert "2 added" in result.stdout
    assert "2 skipped" in result.stdout

    def modalities(*more: str) -> set[str]:
        hits = json.loads(duch("search", gallery, "a wide river", "-k", "20", "--json", *more).stdout)["hits"]
        return {hit["modality"] for hit in hits}

    assert modalities() == {"image"}, "a sentence looks for images where there are any"
    assert modalities("--in", "image") == {"image"}
    assert modalities("--in", "text") == {"text"}
    found = json.loads(duch("search", gallery, "a wide river", "--in", "text", "--json").stdout)["hits"][0]
    assert (found["id"], found["distance"], found["attributes"]) == ("r", 0, {"source": "hand"})


def test_a_gallery_of_sentences_alone_answers_by_sentences(tmp_path: Path, images: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a wide river"}\n')
    assert duch("index", TINY, tmp_path / "g", "--texts", tmp_path / "t.jsonl").exit_code == 0
    result = duch("search", tmp_path / "g", "--image", images / "red" / "0.png")
    assert "a wide river" in result.stdout


def test_words_that_the_model_cannot_spell_are_told(gallery: Path) -> None:
    result = duch("search", gallery, "a river ☃")
    assert result.exit_code == 0
    assert "☃" in result.stderr


def test_bad_queries_are_one_line(gallery: Path, tmp_path: Path) -> None:
    fails(duch("search", gallery), "nothing to look for; wanted words, an image or a tile")
    fails(duch("search", gallery, "a river", "--image", "x.png"), "x.png does not exist")
    fails(duch("search", gallery, "   "), "empty")
    fails(duch("search", gallery, "river " * 10_000), "10,002 tokens", "at most 48")
    fails(duch("search", gallery, "--image", tmp_path / "none.png"), "does not exist")
    fails(duch("search", tmp_path / "nowhere", "a river"), "nowhere")
    fails(duch("search", tmp_path, "a river"), str(tmp_path))
    fails(duch("search", gallery, "a river", "--sheet", tmp_path / "x.docx"), ".docx")
    fails(duch("search", gallery, "a river", "--sheet", tmp_path / "no" / "x.png"), "does not exist")
    fails(duch("search", gallery, "a river", "--bundle", tmp_path), "manifest")
    fails(duch("search", gallery, "a river", "--in", "text"), "holds no texts")


def test_bad_folders_for_index_are_one_line(images: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fails(duch("index", TINY, tmp_path / "gallery"), "IMAGES GALLERY")
    fails(duch("index", TINY, tmp_path / "none", tmp_path / "gallery"), "does not exist")
    fails(duch("index", TINY, tmp_path / "empty", tmp_path / "gallery"), "holds no images")
    fails(duch("index", tmp_path / "none", images, tmp_path / "gallery"), "none")
    fails(duch("index", TINY, images, images), "wanted a gallery, or a new or empty folder")
    assert not (tmp_path / "gallery").exists()


@pytest.mark.parametrize("name", ["--root", "--texts", "IMAGES", "--sheet", "--npy", "--image", "--bundle"])
def test_an_empty_path_is_refused_and_does_not_mean_the_current_folder(gallery: Path, images: Path, name: str) -> None:
    fails(
        {
            "--root": lambda: duch("index", TINY, images, gallery, "--root", ""),
            "--texts": lambda: duch("index", TINY, gallery, "--texts", ""),
            "IMAGES": lambda: duch("index", TINY, "", gallery),
            "--sheet": lambda: duch("search", gallery, "a river", "--sheet", ""),
            "--npy": lambda: duch("encode", TINY, "--text", "a river", "--npy", ""),
            "--image": lambda: duch("encode", TINY, "--image", ""),
            "--bundle": lambda: duch("search", gallery, "a river", "--bundle", ""),
        }[name](),
        name,
        "is empty",
    )


def test_numbers_beyond_reason_are_refused(gallery: Path, images: Path) -> None:
    for arguments in (
        ("index", TINY, images, gallery, "--batch-size", "9" * 23),
        ("index", TINY, images, gallery, "--threads", "9" * 23),
        ("search", gallery, "a river", "-k", "9" * 23),
    ):
        result = duch(*arguments)
        assert result.exit_code == 2
        assert "is not in the range" in result.stderr


def test_json_is_utf8_whatever_bytes_a_file_name_holds(images: Path, tmp_path: Path) -> None:
    strange = images / os.fsdecode(b"\xff\n.png")
    shutil.copy(images / "red" / "0.png", strange)
    gallery = tmp_path / os.fsdecode(b"g\xfe")
    for arguments in (
        ("index", TINY, images, gallery, "--json"),
        ("search", gallery, "--image", strange, "--json"),
        ("encode", TINY, "--image", strange, "--json"),
    ):
        for encoding in ("utf-8", "ascii"):
            done = subprocess.run(
                [sys.executable, "-m", "duch", *map(os.fspath, arguments)],
                check=True,
                capture_output=True,
                env={**os.environ, "PYTHONIOENCODING": encoding},
            )
            told = json.loads(done.stdout.decode("utf-8"))
        if arguments[0] == "search":
            assert told["query"].endswith("\\xff\n.png")
            assert {"%FF\n.png"} <= {hit["id"] for hit in told["hits"]}


def test_a_sentence_that_is_no_utf8_is_one_line(gallery: Path) -> None:
    fails(duch("search", gallery, "a river \udcff"), "no UTF-8")
    fails(duch("encode", TINY, "--text", "\udcff"), "no UTF-8")


def test_a_failed_write_leaves_the_old_file(gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("duch.durable.os.fsync", full)
    kept = {tmp_path / "codes.npy": b"codes", tmp_path / "sheet.png": b"sheet"}
    for file, content in kept.items():
        file.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    fails(duch("encode", TINY, "--text", "a river", "--npy", tmp_path / "codes.npy"), "codes.npy: No space left")
    fails(duch("search", gallery, "a river", "--sheet", tmp_path / "sheet.png"), "sheet.png: No space left")
    assert {file: file.read_bytes() for file in kept} == kept
    assert sorted(tmp_path.iterdir()) == before


def test_files_are_written_through_links_into_devices_and_by_the_umask(tmp_path: Path) -> None:
    (tmp_path / "real.npy").write_bytes(b"old")
    (tmp_path / "link.npy").symlink_to(tmp_path / "real.npy")
    arguments = ("encode", TINY, "--text", "a river", "--npy")
    assert json.loads(duch(*arguments, tmp_path / "link.npy", "--json").stdout)["n_bits"] == 32
    assert (tmp_path / "link.npy").is_symlink()
    assert np.load(tmp_path / "real.npy").shape == (1, 4)
    (tmp_path / "plain").touch()
    assert (tmp_path / "real.npy").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert duch(*arguments, os.devnull).exit_code == 0
    assert not Path(os.devnull).is_file()
    fails(duch(*arguments, tmp_path), str(tmp_path), "directory")
    fails(duch(*arguments, tmp_path / "no" / "x.npy"), "x.npy: No such file")


@pytest.mark.parametrize("name", ["x.psd", "x.fits", "x.cur", "x.fli"])
def test_a_sheet_in_a_format_that_is_only_read_is_refused(gallery: Path, tmp_path: Path, name: str) -> None:
    fails(duch("search", gallery, "a river", "--sheet", tmp_path / name), "wanted .png")
    assert not (tmp_path / name).exists()


def test_a_sheet_does_not_replace_the_image_of_the_query(gallery: Path, images: Path, tmp_path: Path) -> None:
    query = images / "red" / "0.png"
    before = query.read_bytes()
    (tmp_path / "link.png").symlink_to(query)
    fails(duch("search", gallery, "--image", query, "--sheet", tmp_path / "link.png"), "is read by the search")
    assert query.read_bytes() == before


def test_a_bundle_can_be_pinned(gallery: Path, images: Path, tmp_path: Path) -> None:
    for arguments in (
        ("encode", TINY, "--text", "a river"),
        ("index", TINY, images, tmp_path / "new"),
        ("search", gallery, "a river"),
    ):
        fails(duch(*arguments, "--expect-fingerprint", "ab" * 32), "expected abab")
        assert duch(*arguments, "--expect-fingerprint", read_bundle(TINY).fingerprint.upper()).exit_code == 0


def _broken(bundle: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    shutil.copytree(TINY, bundle)
    (bundle / name).write_bytes(change((bundle / name).read_bytes()))
    return bundle


def _flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("name", ["image.onnx", "text.onnx", "tokenizer.json", "golden.npz", "manifest.json"])
def test_a_flipped_bit_in_a_bundle_is_found_before_anything_is_indexed(images: Path, tmp_path: Path, name: str) -> None:
    bundle = _broken(tmp_path / "broken", name, _flip)
    fails(duch("index", bundle, images, tmp_path / "new"), name)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["image.onnx", "text.onnx", "tokenizer.json", "golden.npz", "manifest.json"])
def test_a_flipped_bit_is_found_by_the_queries_that_use_its_file(
    images: Path, gallery: Path, tmp_path: Path, name: str
) -> None:
    bundle = _broken(tmp_path / "broken", name, _flip)
    image = images / "red" / "0.png"
    used = {
        ("a river",): {"text.onnx", "tokenizer.json", "manifest.json"},
        ("--image", image): {"image.onnx", "manifest.json"},
    }
    for query, files in used.items():
        result = duch("search", gallery, *query, "--bundle", bundle)
        if name in files:
            fails(result, name)
        else:
            assert result.exit_code == 0, result.stderr
    coded = duch("encode", bundle, "--text", "a river", "--image", image)
    if name == "golden.npz":
        assert coded.exit_code == 0
    else:
        fails(coded, name)


def test_a_bundle_that_failed_its_export_is_named_in_one_line(images: Path, gallery: Path, tmp_path: Path) -> None:
    resigned(
        tmp_path / "forced", gate=Gate(passed=False, failures=("text: bit agreement 0.91 is below 0.98", "another"))
    )
    for arguments in (
        ("encode", tmp_path / "forced", "--text", "a river"),
        ("index", tmp_path / "forced", images, tmp_path / "new"),
        ("search", gallery, "a river", "--bundle", tmp_path / "forced"),
    ):
        result = duch(*arguments)
        assert result.exit_code == 0
        warned = [line for line in result.stderr.splitlines() if "failed the tests of its export" in line]
        assert len(warned) == 1, result.stderr
        assert warned[0].endswith("forced failed the tests of its export: text: bit agreement 0.91 is below 0.98")
        assert "failed" not in duch(*[TINY if part == tmp_path / "forced" else part for part in arguments]).stderr


def test_another_bundles_gallery_is_refused(gallery: Path, tmp_path: Path) -> None:
    tiny = read_bundle(TINY)
    resigned(tmp_path / "other", text=type(tiny.text)(max_tokens=20, pad_id=tiny.text.pad_id))
    fails(duch("search", gallery, "a river", "--bundle", tmp_path / "other"), tiny.fingerprint[:8])


def test_the_bundle_can_come_from_the_environment(
    gallery: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DUCH_BUNDLE", str(tmp_path / "none"))
    fails(duch("search", gallery, "a river"), "none")
    monkeypatch.setenv("DUCH_BUNDLE", str(TINY))
    assert duch("search", gallery, "a river").exit_code == 0


def test_help_names_every_command_and_search_needs_no_heavy_package() -> None:
    code = (
        "import sys; from duch.cli import main; main(['search', '--help'], standalone_mode=False);"
        "heavy = {'torch', 'transformers', 'onnx', 'onnxruntime', 'numpy', 'duch_training'} & set(sys.modules);"
        "assert not heavy - {'numpy'}, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    listed = duch("--help").stdout
    for command in ("encode", "index", "search", "scenes", "train", "evaluate", "export"):
        assert f"\n  {command}" in listed
        assert duch(command, "--help").exit_code == 0


def test_training_without_its_extra_says_which_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from duch.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", str(tmp_path), str(tmp_path / "out")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith("pip install 'duch[train]'")


def _many_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.png")
    return folder


def _index_command(images: Path, gallery: Path) -> list[str]:
    return [sys.executable, "-m", "duch", "index", str(TINY), str(images), str(gallery), "--batch-size", "8"]


def test_an_interrupt_keeps_what_was_coded_and_the_next_run_goes_on(tmp_path: Path) -> None:
    images, gallery = _many_images(tmp_path / "images", 3000), tmp_path / "gallery"
    process = subprocess.Popen(_index_command(images, gallery), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        # the second batch of 8 codes is written, so the first one is committed
        if any(path.stat().st_size > 64 + 8 * 4 for path in gallery.glob("codes-*.bin")):
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    with Gallery.open(gallery) as opened:
        kept = len(opened)
    assert 0 < kept < 3000
    report = json.loads(duch("index", TINY, images, gallery, "--json").stdout)
    assert (report["added"], report["unchanged"]) == (3000 - kept, kept)


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    images, gallery = _many_images(tmp_path / "images", 400), tmp_path / "gallery"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))

    done = subprocess.run(
        _index_command(images, gallery), preexec_fn=limit, check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "tiles" in done.stderr.strip().splitlines()[-1]
    with Gallery.open(gallery) as opened:
        kept = len(opened)
    report = json.loads(duch("index", TINY, images, gallery, "--json").stdout)
    assert (report["added"], report["unchanged"]) == (400 - kept, kept)


def test_a_closed_pipe_is_no_traceback(gallery: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "duch", "search", str(gallery), "a river"],
        check=False,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert "Traceback" not in process.stderr


def test_an_interrupt_while_the_command_is_imported_is_no_traceback(gallery: Path) -> None:
    code = (
        "import sys, duch.__main__ as entry\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == NAME: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "entry.run()\n"
    )
    for name in ("click", "numpy", "duch.cli", "duch.retriever", "onnxruntime"):
        done = subprocess.run(
            [sys.executable, "-c", f"NAME = {name!r}\n" + code, "search", str(gallery), "a river"],
            check=False,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr.strip()) == (130, "duch: interrupted"), name


def test_letters_that_the_locale_lacks_are_escaped_and_end_nothing() -> None:
    command = [sys.executable, "-m", "duch", "encode", str(TINY), "--text", "a river 河"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("  a river \\u6cb3\n")


def test_json_does_not_steer_the_terminal() -> None:
    sentence = "a river \x9b31m \x7f \x1b[2J é"
    printed = duch("encode", TINY, "--text", sentence, "--json").stdout
    assert json.loads(printed)["codes"][0]["input"] == sentence
    assert printed.replace("\n", "").isprintable()
    assert "é" in printed
