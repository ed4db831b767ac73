"""The bundle on disk: what is refused, with which line, and what a crash leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import duch.bundle
from duch.bundle import Bundle, check_writable, read_bundle
from duch.encoder import Encoder
from duch.errors import BundleCorruptError, BundleError, BundleVersionError, DuchError, InputError
from duch.manifest import HASHED_FILES, MANIFEST

from .resigned import TINY, resigned


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the tiny bundle."""
    copy = tmp_path / "bundle"
    copy.mkdir()
    for name in (MANIFEST, *HASHED_FILES):
        shutil.copyfile(TINY / name, copy / name)
    return copy


def sign(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest and give it a right digest, as a careless tool might."""
    raw = json.loads((folder / MANIFEST).read_text())
    del raw["manifest_sha256"]
    change(raw)
    body = json.dumps(raw, indent=2).removesuffix("\n}")
    digest = hashlib.sha256(body.encode()).hexdigest()
    (folder / MANIFEST).write_text(f'{body},\n  "manifest_sha256": "{digest}"\n}}\n')


def write(folder: Path, bundle: Bundle, **changes: Any) -> Bundle:
    """Write the content of a bundle to another folder."""
    return read_bundle(resigned(folder, bundle, **changes))


def one_line(error: pytest.ExceptionInfo[DuchError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_tiny_bundle_reads() -> None:
    bundle = read_bundle(TINY)
    assert (bundle.n_bits, bundle.image.size, bundle.text.max_tokens) == (32, 32, 48)
    assert bundle.manifest.text_graph.batch_invariant
    assert json.loads(bundle.tokenizer_json())["model"]["type"] == "WordPiece"


def test_fingerprint_is_what_the_format_document_says() -> None:
    """Byte literals, so that a change of the format cannot pass unseen."""
    bundle = read_bundle(TINY)
    digest = {name: hashlib.sha256((TINY / name).read_bytes()).hexdigest() for name in HASHED_FILES[:3]}
    canonical = (
        '{"format_version":1,"n_bits":32,"preprocessing":{"image":{"size":32},"text":{"max_tokens":48,"pad_id":0}},'
        f'"sha256":{{"image.onnx":"{digest["image.onnx"]}","text.onnx":"{digest["text.onnx"]}",'
        f'"tokenizer.json":"{digest["tokenizer.json"]}"}}}}'
    )
    assert bundle.fingerprint == hashlib.sha256(canonical.encode()).hexdigest()


def test_golden_arrays_have_the_documented_shapes() -> None:
    golden = read_bundle(TINY).golden()
    m, t = golden.input_ids.shape
    assert golden.png[:8] == b"\x89PNG\r\n\x1a\n"
    assert golden.jpeg[:2] == b"\xff\xd8"
    assert golden.pixels.shape == (2, 32, 32, 3)
    assert len(golden.captions) == m
    assert golden.attention_mask.shape == (m, t)
    assert np.array_equal(np.packbits(golden.text_relaxed >= 0, axis=1), golden.text_codes)
    assert np.array_equal(np.packbits(golden.image_relaxed >= 0, axis=1), golden.image_codes)


def test_written_bundle_reads_back_the_same(tmp_path: Path) -> None:
    tiny = read_bundle(TINY)
    report = {"bit_agreement": 0.99}
    bundle = write(tmp_path / "deep" / "er" / "b", tiny, report=report, provenance={"preset": "tiny"})
    assert bundle.fingerprint == tiny.fingerprint
    assert bundle.manifest.report == report
    assert bundle.manifest.provenance == {"preset": "tiny"}
    assert bundle.golden().captions == tiny.golden().captions
    assert sorted(os.listdir(bundle.path)) == sorted([MANIFEST, *HASHED_FILES])
    assert os.listdir(bundle.path.parent) == ["b"], "something was left beside it"


def test_measuring_again_keeps_the_fingerprint_but_another_graph_does_not(tmp_path: Path) -> None:
    tiny = read_bundle(TINY)
    again = write(tmp_path / "again", tiny, report={"ms": 1.5}, golden=replace(tiny.golden(), captions=("a",) * 4))
    other = write(tmp_path / "other", tiny, text_onnx=b"another graph")
    assert again.fingerprint == tiny.fingerprint
    assert other.fingerprint != tiny.fingerprint


@pytest.mark.parametrize("name", HASHED_FILES)
def test_flipped_byte_is_found_and_named(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleCorruptError, match=name) as error:
        read_bundle(folder)
    assert "sha256" in one_line(error)


def test_any_flipped_byte_of_the_manifest_is_found(folder: Path) -> None:
    whole = (folder / MANIFEST).read_bytes()
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1
        (folder / MANIFEST).write_bytes(data)
        with pytest.raises(BundleError, match=MANIFEST):
            read_bundle(folder)


@pytest.mark.parametrize("name", HASHED_FILES)
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_unchecked_file_is_checked_when_it_is_first_used(folder: Path, name: str, damage: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).unlink()
    if damage == "flipped":
        (folder / name).write_bytes(data)
    bundle = read_bundle(folder, check_all=False)
    uses: dict[str, Callable[[], object]] = {"tokenizer.json": bundle.tokenizer_json, "golden.npz": bundle.golden}
    use = uses.get(name, lambda: Encoder(bundle).load("image" if name == "image.onnx" else "text"))
    for _ in range(2):
        with pytest.raises(BundleCorruptError, match=name):
            use()
    for other in set(HASHED_FILES) - {name}:
        assert bundle.file(other).is_file()
    assert bundle.unchecked == {name}


def test_file_is_read_once_to_check_it(folder: Path) -> None:
    bundle = read_bundle(folder)
    (folder / "text.onnx").unlink()
    assert bundle.file("text.onnx") == folder / "text.onnx"


@pytest.mark.parametrize("name", HASHED_FILES)
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleCorruptError, match=f"has no {name}"):
        read_bundle(folder)


@pytest.mark.parametrize("name", [MANIFEST, *HASHED_FILES])
def test_truncated_file_is_refused(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    for length in (0, 1, len(data) - 1):
        (folder / name).write_bytes(data[:length])
        with pytest.raises(BundleError, match=name):
            read_bundle(folder)


def test_newer_format_names_both_versions(folder: Path) -> None:
    sign(folder, lambda raw: raw.update(format_version=7))
    with pytest.raises(BundleVersionError, match=r"version 7.*version 1.*upgrade duch"):
        read_bundle(folder)


def test_newer_format_need_not_keep_the_digest_rule(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"format": "duch-bundle", "format_version": 2}')
    with pytest.raises(BundleVersionError, match="upgrade duch"):
        read_bundle(folder)


def test_missing_folder_file_and_stranger_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        read_bundle(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="is a file"):
        read_bundle(tmp_path / "file")
    with pytest.raises(BundleError, match=r"manifest\.json does not exist"):
        read_bundle(tmp_path)
    (tmp_path / MANIFEST).write_text('{"name": "a web app"}')
    with pytest.raises(BundleError, match="no bundle"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1, 2]", b"[" * 100_000, b'{"n_bits": NaN}', b"null"])
def test_manifest_that_is_no_json_object_is_one_line(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=MANIFEST) as error:
        read_bundle(folder)
    one_line(error)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda raw: raw.update(format_version="1"), "format_version"),
        (lambda raw: raw.update(format_version=True), "format_version"),
        (lambda raw: raw.update(n_bits=12), "n_bits is 12"),
        (lambda raw: raw.update(n_bits="64"), 'n_bits is "64"'),
        (lambda raw: raw.pop("n_bits"), "n_bits is missing"),
        (lambda raw: raw["preprocessing"]["image"].update(size=0), "size is 0"),
        (lambda raw: raw["preprocessing"]["text"].update(pad_id=-1), "pad_id is -1"),
        (lambda raw: raw["preprocessing"]["text"].update(pad_id=2**70), "pad_id is 1180591620717411303424; wanted"),
        (
            lambda raw: raw["preprocessing"]["image"].update(size=10**6),
            "size is 1000000; wanted an integer from 1 to 8,192",
        ),
        (lambda raw: raw["graphs"]["text"].update(golden_budget=10**400), "golden_budget is 1000"),
        (lambda raw: raw.update(format_version=10**400), "format_version is 1000"),
        (lambda raw: raw["preprocessing"].update(text=None), "text is null"),
        (lambda raw: raw["graphs"]["text"].update(precision="int4"), "int4"),
        (lambda raw: raw["graphs"]["text"].update(batch_invariant=1), "batch_invariant is 1"),
        (lambda raw: raw["sha256"].pop("golden.npz"), "golden.npz is missing"),
        (lambda raw: raw.update(sha256=[]), "sha256"),
        (lambda raw: raw.update(fingerprint="0" * 64), "fingerprint"),
        (lambda raw: raw.update(n_bits=64), "fingerprint"),
        (lambda raw: raw.update(report="good"), "report"),
    ],
)
def test_wrong_types_in_a_signed_manifest_are_named(
    folder: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    sign(folder, change)
    with pytest.raises(BundleCorruptError, match=MANIFEST) as error:
        read_bundle(folder)
    assert told in one_line(error)


def test_number_that_no_double_holds_is_refused(folder: Path) -> None:
    data = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(data.replace(b'"n_bits": 32', b'"n_bits": 1e999'))
    with pytest.raises(BundleCorruptError, match="1e999 is more than a double holds"):
        read_bundle(folder)


def test_pinned_fingerprint(folder: Path) -> None:
    fingerprint = read_bundle(folder).fingerprint
    assert read_bundle(folder, expect_fingerprint=fingerprint.upper()).fingerprint == fingerprint
    with pytest.raises(BundleError, match="expected"):
        read_bundle(folder, expect_fingerprint="0" * 64)


def test_golden_never_unpickles(folder: Path) -> None:
    arrays = dict(np.load(folder / "golden.npz"))
    arrays["pixels"] = np.array([{"a": 1}], dtype=object)
    np.savez(folder / "golden.npz", **arrays)
    digest = hashlib.sha256((folder / "golden.npz").read_bytes()).hexdigest()
    sign(folder, lambda raw: raw["sha256"].update({"golden.npz": digest}))
    with pytest.raises(BundleCorruptError, match=r"golden\.npz cannot be used.*pickle"):
        read_bundle(folder).golden()


def test_existing_bundle_needs_overwrite(folder: Path) -> None:
    tiny = read_bundle(TINY)
    with pytest.raises(BundleError, match="--overwrite"):
        write(folder, tiny)
    assert write(folder, tiny, overwrite=True, report={"new": True}).manifest.report == {"new": True}
    assert os.listdir(folder.parent) == ["bundle"]


def test_damaged_bundle_can_be_overwritten(folder: Path) -> None:
    (folder / "text.onnx").unlink()
    assert write(folder, read_bundle(TINY), overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="no bundle"):
        write(tmp_path, read_bundle(TINY), overwrite=overwrite)
    with pytest.raises(BundleError, match="is a file"):
        write(tmp_path / "thesis.txt", read_bundle(TINY), overwrite=overwrite)
    with pytest.raises(BundleError, match=r"thesis\.txt: Not a directory; choose another place") as error:
        check_writable(tmp_path / "thesis.txt" / "new" / "bundle", overwrite=overwrite)
    one_line(error)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("place", [".", "../here"])
def test_the_working_folder_is_not_replaced(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(BundleError, match="is the folder that the command runs in") as error:
        write(Path(place), read_bundle(TINY))
    one_line(error)
    assert os.listdir(tmp_path) == ["here"]


def test_notes_kept_in_a_bundle_are_not_lost(folder: Path) -> None:
    (folder / "notes.txt").write_text("x")
    with pytest.raises(BundleError, match=r"notes\.txt"):
        write(folder, read_bundle(TINY), overwrite=True)


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert write(tmp_path / "new", read_bundle(TINY)).path == tmp_path / "new"


def test_symlink_to_a_bundle_stays_a_symlink(folder: Path) -> None:
    link = folder.with_name("current")
    link.symlink_to("bundle")
    write(link, read_bundle(TINY), overwrite=True, report={"new": True})
    assert link.is_symlink()
    assert read_bundle(folder).manifest.report == {"new": True}


def test_failed_write_leaves_the_old_bundle_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(duch.bundle.os, "fsync", full)
    with pytest.raises(BundleError, match="No space left") as error:
        write(folder, read_bundle(TINY), overwrite=True)
    one_line(error)
    assert read_bundle(folder).fingerprint == read_bundle(TINY).fingerprint
    assert os.listdir(folder.parent) == ["bundle"]


def test_failed_rename_brings_the_old_bundle_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename
    calls = []

    def second_fails(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(duch.bundle.os, "rename", second_fails)
    with pytest.raises(BundleError, match="Input/output error"):
        write(folder, read_bundle(TINY), overwrite=True)
    assert read_bundle(folder)
    assert os.listdir(folder.parent) == ["bundle"]


@pytest.mark.parametrize("report", [{"x": float("nan")}, {"x": np.float32(1)}, {"x": {1, 2}}])
def test_report_that_is_no_json_is_refused_before_writing(tmp_path: Path, report: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="report"):
        write(tmp_path / "b", read_bundle(TINY), report=report)
    assert os.listdir(tmp_path) == []
