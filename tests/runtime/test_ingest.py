"""Indexing folders of images and files of sentences, with the tiny bundle, on real files."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import duch.decode
from duch.encoder import Encoder
from duch.errors import GalleryMismatchError, InputError
from duch.gallery import Gallery
from duch.ids import id_to_path, path_to_id
from duch.ingest import IngestReport, index_images, index_texts
from duch.tile import Tile

TINY = Path(__file__).parents[1] / "tiny_bundle"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(TINY)


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 36)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(colours).resize(size, Image.Resampling.NEAREST).save(path)
    return path


def tree(folder: Path, n: int = 5) -> Path:
    for i in range(n):
        picture(folder / f"s{i % 2}" / f"{i}.png", i)
    return folder


def ids_in(folder: Path) -> list[str]:
    with Gallery.open(folder) as gallery:
        zero = np.zeros((1, gallery.n_bits // 8), dtype=np.uint8)
        return sorted(hit.id for hit in gallery.search(zero, max(1, len(gallery)))[0])


def counts(report: IngestReport) -> tuple[int, ...]:
    return (report.added, report.replaced, report.unchanged, report.removed, report.missing, len(report.skipped))


def message_of(kind: type[Exception], call: Any) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- ids ---


@given(st.binary(min_size=1).filter(lambda raw: b"\0" not in raw))
def test_every_path_has_one_id_that_leads_back_to_it(raw: bytes) -> None:
    path = os.fsdecode(raw)
    tile_id = path_to_id(path)
    tile_id.encode("utf-8")
    assert id_to_path(tile_id) == path


def test_ids_keep_readable_names_and_escape_bytes_that_are_no_utf8() -> None:
    assert path_to_id("a b/ü 50%.png") == "a b/ü 50%.png"
    assert path_to_id(os.fsdecode(b"a\xff.png")) == "a%FF.png"
    assert path_to_id("a%FF.png") == "a%25FF.png"


# --- images ---


def test_each_image_is_found_under_its_path_with_its_own_code(tmp_path: Path, encoder: Encoder) -> None:
    images = tree(tmp_path / "images")
    seen: list[tuple[int, int]] = []
    report = index_images(
        encoder, images, tmp_path / "g", batch_size=2, on_progress=lambda done, total: seen.append((done, total))
    )
    assert counts(report) == (5, 0, 0, 0, 0, 0)
    assert seen[-1] == (5, 5)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.root == images
        assert gallery.bundle_hint == TINY
        assert gallery.fingerprint == encoder.bundle.fingerprint
        for i in range(5):
            (hit,) = gallery.search(encoder.encode_images([images / f"s{i % 2}" / f"{i}.png"]), 1)[0]
            assert (hit.id, hit.uri, hit.distance) == (f"s{i % 2}/{i}.png", f"s{i % 2}/{i}.png", 0)


def test_seq_follows_the_order_of_names(tmp_path: Path, encoder: Encoder) -> None:
    for name in ("b.png", "a/z.png", "a.png", "c/a/q.png"):
        picture(tmp_path / "images" / name)  # equal pixels, so equal codes
    index_images(encoder, tmp_path / "images", tmp_path / "g", batch_size=3)
    with Gallery.open(tmp_path / "g") as gallery:
        hits = gallery.search(gallery.codes[:1].copy(), 9)[0]
    assert [hit.id for hit in hits] == ["a.png", "a/z.png", "b.png", "c/a/q.png"]


def test_a_changed_image_keeps_what_was_told_of_its_place(tmp_path: Path, encoder: Encoder) -> None:
    images = tree(tmp_path / "images", 2)
    index_images(encoder, images, tmp_path / "g")
    told = {"footprint": (1.0, 2.0, 3.0, 4.0), "time_us": 5, "attributes": {"cloud": 6, "deep": {"a": [7]}}}
    with Gallery.writer(tmp_path / "g") as out:
        out.append(out.codes()[:1].copy(), [replace(out.find("s0/0.png"), **told)])
    picture(images / "s0" / "0.png", 99, (50, 50))
    assert counts(index_images(encoder, images, tmp_path / "g")) == (0, 1, 1, 0, 0, 0)
    with Gallery.open(tmp_path / "g") as gallery:
        hits = {hit.id: hit for hit in gallery.search(encoder.encode_images([images / "s0" / "0.png"]), 2)[0]}
        assert hits["s0/0.png"].distance == 0
        assert {name: getattr(hits["s0/0.png"], name) for name in told} == told


def test_chips_are_not_taken_for_images_that_are_gone(tmp_path: Path, encoder: Encoder) -> None:
    images = tree(tmp_path / "images", 2)
    index_images(encoder, images, tmp_path / "g")
    names = {"scene.tif#0,0,8,8": "scene.tif", "s0/0.png#0,0,8,8": "s0/0.png", "b#0,0,8,8.png": "b#0,0,8,8.png"}
    with Gallery.writer(tmp_path / "g") as out:
        tiles = [Tile(id=tile_id, modality="image", uri=uri) for tile_id, uri in names.items()]
        out.append(np.zeros((3, out.n_bits // 8), dtype=np.uint8), tiles)
    assert counts(index_images(encoder, images, tmp_path / "g")) == (0, 0, 2, 0, 1, 0)
    assert counts(index_images(encoder, images, tmp_path / "g", prune=True)) == (0, 0, 2, 1, 0, 0)
    assert ids_in(tmp_path / "g") == ["s0/0.png", "s0/0.png#0,0,8,8", "s1/1.png", "scene.tif#0,0,8,8"]


def test_a_second_run_codes_only_what_is_new_or_changed(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tree(tmp_path / "images")
    index_images(encoder, images, tmp_path / "g")
    picture(images / "new.png", 77)
    picture(images / "s0" / "0.png", 78, (50, 50))
    coded = []
    encode = encoder.encode_pixels
    monkeypatch.setattr(encoder, "encode_pixels", lambda pixels: coded.append(len(pixels)) or encode(pixels))
    assert counts(index_images(encoder, images, tmp_path / "g")) == (1, 1, 4, 0, 0, 0)
    assert coded == [2]
    assert counts(index_images(encoder, images, tmp_path / "g")) == (0, 0, 6, 0, 0, 0)
    assert coded == [2]
    with Gallery.open(tmp_path / "g") as gallery:
        (hit,) = gallery.search(encoder.encode_images([images / "s0" / "0.png"]), 1)[0]
        assert (hit.id, hit.distance, len(gallery)) == ("s0/0.png", 0, 6)


def test_a_file_of_the_same_size_with_a_new_time_is_coded_again(tmp_path: Path, encoder: Encoder) -> None:
    images = tree(tmp_path / "images", 1)
    index_images(encoder, images, tmp_path / "g")
    os.utime(images / "s0" / "0.png", ns=(1, 1))
    assert counts(index_images(encoder, images, tmp_path / "g")) == (0, 1, 0, 0, 0, 0)


def test_tiles_of_vanished_files_are_kept_unless_pruned(tmp_path: Path, encoder: Encoder) -> None:
    images = tree(tmp_path / "images")
    index_images(encoder, images, tmp_path / "g")
    (images / "s0" / "0.png").unlink()
    (images / "s1" / "1.png").unlink()
    assert counts(index_images(encoder, images, tmp_path / "g")) == (0, 0, 3, 0, 2, 0)
    assert len(ids_in(tmp_path / "g")) == 5
    # A run over one subfolder prunes there and nowhere else.
    assert counts(index_images(encoder, images / "s0", tmp_path / "g", prune=True)) == (0, 0, 2, 1, 0, 0)
    assert ids_in(tmp_path / "g") == ["s0/2.png", "s0/4.png", "s1/1.png", "s1/3.png"]


def test_files_that_are_no_usable_images_are_skipped_with_the_reason(tmp_path: Path, encoder: Encoder) -> None:
    images = tmp_path / "images"
    picture(images / "good.PNG")
    picture(images / "upper.JPeG")
    (images / "empty.png").touch()
    (images / "text.jpg").write_text("not a picture")
    whole = picture(images / "whole.jpg", 3, (200, 200)).read_bytes()
    (images / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "nowhere.png").symlink_to(images / "gone.png")
    os.mkfifo(images / "pipe.png")
    (images / "notes.txt").write_text("x")
    report = index_images(encoder, images, tmp_path / "g", batch_size=2)
    assert (report.added, report.ignored) == (3, 1)
    reasons = dict(report.skipped)
    assert sorted(reasons) == ["cut.jpg", "empty.png", "nowhere.png", "pipe.png", "text.jpg"]
    assert "0 bytes" in reasons["empty.png"]
    assert "no image that Pillow can read" in reasons["text.jpg"]
    assert "truncated" in reasons["cut.jpg"]
    assert "No such file" in reasons["nowhere.png"]
    assert "no regular file" in reasons["pipe.png"]
    assert ids_in(tmp_path / "g") == ["good.PNG", "upper.JPeG", "whole.jpg"]


def test_links_to_folders_are_followed_but_not_round_in_circles(tmp_path: Path, encoder: Encoder) -> None:
    picture(tmp_path / "elsewhere" / "x.png")
    images = tree(tmp_path / "images", 2)
    (images / "s0" / "up").symlink_to(images)
    (images / "s0" / "self").symlink_to(".")
    (images / "link").symlink_to(tmp_path / "elsewhere")
    assert counts(index_images(encoder, images, tmp_path / "g")) == (3, 0, 0, 0, 0, 0)
    assert ids_in(tmp_path / "g") == ["link/x.png", "s0/0.png", "s1/1.png"]


def test_names_that_are_no_utf8_are_indexed_and_recognised(tmp_path: Path, encoder: Encoder) -> None:
    images = tmp_path / "images"
    picture(images / "plain.png", 1).rename(images / os.fsdecode(b"\xfe\xffa.png"))
    picture(images / "%FE%FFa.png", 2)
    picture(images / "日本 ü.png", 3)
    assert counts(index_images(encoder, images, tmp_path / "g")) == (3, 0, 0, 0, 0, 0)
    assert counts(index_images(encoder, images, tmp_path / "g", prune=True)) == (0, 0, 3, 0, 0, 0)
    assert ids_in(tmp_path / "g") == ["%25FE%25FFa.png", "%FE%FFa.png", "日本 ü.png"]


def test_a_subfolder_is_indexed_relative_to_the_galleries_root(tmp_path: Path, encoder: Encoder) -> None:
    images = tree(tmp_path / "images")
    index_images(encoder, images / "s0", tmp_path / "g", root=images)
    assert ids_in(tmp_path / "g") == ["s0/0.png", "s0/2.png", "s0/4.png"]
    index_images(encoder, images / "s1", tmp_path / "g")
    assert ids_in(tmp_path / "g") == ["s0/0.png", "s0/2.png", "s0/4.png", "s1/1.png", "s1/3.png"]
    other = tree(tmp_path / "other")
    text = message_of(InputError, lambda: index_images(encoder, other, tmp_path / "g"))
    assert "is not inside the root" in text
    assert "index it into a new gallery" in text
    assert "--root" not in text


def test_images_that_moved_keep_their_tiles_under_a_new_root(tmp_path: Path, encoder: Encoder) -> None:
    images = tree(tmp_path / "images")
    index_images(encoder, images, tmp_path / "g")
    moved = images.rename(tmp_path / "moved")
    assert counts(index_images(encoder, moved, tmp_path / "g", root=moved)) == (0, 0, 5, 0, 0, 0)
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.root == moved


def test_a_gallery_with_tiles_keeps_its_root(tmp_path: Path, encoder: Encoder) -> None:
    images = tree(tmp_path / "images")
    index_images(encoder, images / "s0", tmp_path / "g")
    text = message_of(InputError, lambda: index_images(encoder, images, tmp_path / "g", root=images, prune=True))
    assert str(images / "s0") in text
    assert "index into a new gallery" in text
    assert ids_in(tmp_path / "g") == ["0.png", "2.png", "4.png"]
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.root == images / "s0"


def test_a_gallery_that_moved_alone_is_told_where_its_images_are(tmp_path: Path, encoder: Encoder) -> None:
    images = tree(tmp_path / "images")
    index_images(encoder, images, tmp_path / "g")
    (tmp_path / "a" / "b").mkdir(parents=True)
    moved = (tmp_path / "g").rename(tmp_path / "a" / "b" / "g")
    assert "with --root" in message_of(InputError, lambda: index_images(encoder, images, moved))
    assert counts(index_images(encoder, images, moved, root=images)) == (0, 0, 5, 0, 0, 0)


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, at: Path, error: int) -> None:
    """Let a call of os fail at a path and below, for root as well."""
    real = getattr(os, name)

    def call(path: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(path, int) and Path(os.fsdecode(path)).is_relative_to(at):
            raise OSError(error, os.strerror(error), path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("call", ["scandir", "stat", "lstat"])
def test_what_cannot_be_looked_at_is_not_pruned(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, call: str, error: int
) -> None:
    images = tree(tmp_path / "images")
    index_images(encoder, images, tmp_path / "g")
    (images / "s0" / "0.png").unlink()
    (images / "s1" / "1.png").unlink()
    refuse(monkeypatch, call, images / "s0", error)
    report = index_images(encoder, images, tmp_path / "g", prune=True)
    assert report.removed == 1
    assert ids_in(tmp_path / "g") == ["s0/0.png", "s0/2.png", "s0/4.png", "s1/3.png"]
    if call != "lstat":
        assert report.skipped == [("s0", f"cannot be read: {os.strerror(error)}")]


def test_tiles_behind_a_link_to_a_disk_that_is_away_are_not_pruned(tmp_path: Path, encoder: Encoder) -> None:
    images = tree(tmp_path / "images", 2)
    picture(tmp_path / "disk" / "x.png")
    (images / "link").symlink_to(tmp_path / "disk")
    index_images(encoder, images, tmp_path / "g")
    (tmp_path / "disk").rename(tmp_path / "away")
    assert index_images(encoder, images, tmp_path / "g", prune=True).removed == 0


def test_an_unreadable_folder_is_skipped_under_its_name_below_the_root(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tree(tmp_path / "images")
    picture(images / "s0" / "shut" / "x.png")
    refuse(monkeypatch, "stat", images / "s0" / "shut" / "catalog.sqlite", errno.EACCES)
    report = index_images(encoder, images / "s0", tmp_path / "g", root=images)
    assert (report.added, report.skipped) == (3, [("s0/shut", "cannot be read: Permission denied")])
    refuse(monkeypatch, "scandir", images, errno.EACCES)
    text = message_of(InputError, lambda: index_images(encoder, images, tmp_path / "none"))
    assert "images cannot be read: Permission denied" in text
    assert not (tmp_path / "none").exists()


def test_a_folder_is_searched_once_however_many_links_lead_to_it(tmp_path: Path, encoder: Encoder) -> None:
    images = tree(tmp_path / "images", 2)
    picture(tmp_path / "elsewhere" / "x.png")
    for a in ("s0", "s1"):
        (images / a / "elsewhere").symlink_to(tmp_path / "elsewhere")
        for b in ("s0", "s1"):
            (images / a / f"a-{b}").symlink_to(images / b)
    (images / "a").symlink_to(images / "s0")
    assert counts(index_images(encoder, images, tmp_path / "g")) == (3, 0, 0, 0, 0, 0)
    assert ids_in(tmp_path / "g") == ["s0/0.png", "s0/elsewhere/x.png", "s1/1.png"]


def test_a_gallery_inside_the_images_folder_does_not_index_itself(tmp_path: Path, encoder: Encoder) -> None:
    images = tree(tmp_path / "images", 2)
    index_images(encoder, images, images / "gallery")
    picture(images / "gallery" / "sheet.png")
    assert counts(index_images(encoder, images, images / "gallery")) == (0, 0, 2, 0, 0, 0)


def test_a_folder_without_images_is_an_error_and_makes_no_gallery(tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    gallery = tmp_path / "g"
    assert "does not exist" in message_of(InputError, lambda: index_images(encoder, tmp_path / "none", gallery))
    assert "is a file" in message_of(InputError, lambda: index_images(encoder, tmp_path / "file.txt", gallery))
    text = message_of(InputError, lambda: index_images(encoder, tmp_path / "empty", gallery))
    assert "holds no images and 0 other files" in text
    tree(tmp_path / "images")
    text = message_of(InputError, lambda: index_images(encoder, tmp_path / "images", gallery, batch_size=0))
    assert "batch size is 0" in text
    assert not gallery.exists()


def test_a_gallery_of_another_bundle_is_left_alone(tmp_path: Path, encoder: Encoder) -> None:
    Gallery.create(tmp_path / "g", fingerprint="ab" * 32, n_bits=32).close()
    images = tree(tmp_path / "images")
    text = message_of(GalleryMismatchError, lambda: index_images(encoder, images, tmp_path / "g"))
    assert "abababababab" in text
    assert ids_in(tmp_path / "g") == []


INDEXER = """
import sys
from duch.encoder import Encoder
from duch.ingest import index_images
encoder = Encoder(sys.argv[1])
try:
    index_images(encoder, sys.argv[2], sys.argv[3], batch_size=2,
                 on_progress=lambda done, total: print(done, flush=True))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, encoder: Encoder, how: signal.Signals) -> None:
    images, folder = tmp_path / "images", tmp_path / "g"
    for i in range(400):
        picture(images / f"{i:03}.png", i)
    child = subprocess.Popen(
        [sys.executable, "-c", INDEXER, str(TINY), str(images), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    done = [int(child.stdout.readline()) for _ in range(5)]
    child.send_signal(how)
    done += [int(line) for line in child.stdout.read().splitlines() if line]
    assert child.wait(timeout=10) == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    report = index_images(encoder, images, folder)
    assert done[-1] <= report.unchanged <= done[-1] + 2
    assert report.unchanged < 400  # it was really cut short
    assert report.added == 400 - report.unchanged
    assert len(ids_in(folder)) == 400


# --- sentences ---


def jsonl(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_sentences_are_found_with_their_text_and_attributes(tmp_path: Path, encoder: Encoder) -> None:
    file = jsonl(
        tmp_path / "s.jsonl",
        {"text": "a red field"},
        {"id": "ü", "text": "ships in a harbour", "source": "log", "nested": {"a": [1, None]}},
        "",
        {"text": "a river"},
    )
    assert counts(index_texts(encoder, file, tmp_path / "g", batch_size=2)) == (3, 0, 0, 0, 0, 0)
    assert ids_in(tmp_path / "g") == ["text:1", "text:4", "ü"]
    with Gallery.open(tmp_path / "g") as gallery:
        (hit,) = gallery.search(encoder.encode_texts(["ships in a harbour"]), 1)[0]
        assert (hit.id, hit.modality, hit.text, hit.distance) == ("ü", "text", "ships in a harbour", 0)
        assert hit.attributes == {"source": "log", "nested": {"a": [1, None]}}
        assert gallery.root is None


def test_a_second_run_codes_only_new_and_changed_sentences(tmp_path: Path, encoder: Encoder) -> None:
    file = tmp_path / "s.jsonl"
    index_texts(encoder, jsonl(file, {"text": "one"}, {"text": "two", "x": 1}, {"text": "three"}), tmp_path / "g")
    jsonl(file, {"text": "one"}, {"text": "two", "x": True}, {"text": "four"}, {"text": "five"})
    assert counts(index_texts(encoder, file, tmp_path / "g")) == (1, 2, 1, 0, 0, 0)
    with Gallery.open(tmp_path / "g") as gallery:
        hits = gallery.search(encoder.encode_texts(["two"]), 4)[0]
        assert {hit.id: hit.attributes for hit in hits}["text:2"] == {"x": True}


def test_bad_lines_are_named_with_their_number_and_the_rest_goes_on(tmp_path: Path, encoder: Encoder) -> None:
    file = tmp_path / "s.jsonl"
    lines = [
        b'\xef\xbb\xbf{"text": "good"}',
        b"{broken",
        b'["text"]',
        b'{"caption": "x"}',
        b'{"text": "  "}',
        b'{"text": 5}',
        b'{"text": "x", "id": 7}',
        b'{"text": "x", "id": ""}',
        b'{"text": "x", "id": "text:1"}',
        b'{"text": "\xff"}',
        b'{"text": "x", "score": NaN}',
        b'{"text": "\\ud800"}',
        b"[" * 100_000,
        json.dumps({"text": "word " * 10_000}).encode(),
        b'{"text": "also good"}',
    ]
    file.write_bytes(b"\n".join(lines))
    report = index_texts(encoder, file, tmp_path / "g")
    assert report.added == 2
    assert ids_in(tmp_path / "g") == ["text:1", "text:15"]
    reasons = dict(report.skipped)
    assert list(reasons) == [f"line {n}" for n in range(2, 15)]
    assert "no JSON" in reasons["line 2"]
    assert "wanted an object" in reasons["line 3"]
    for n in (4, 5, 6):
        assert "has no text" in reasons[f"line {n}"]
    assert "id 7; wanted a string" in reasons["line 7"]
    assert "empty id" in reasons["line 8"]
    assert "'text:1' of line 1" in reasons["line 9"]
    assert "no UTF-8" in reasons["line 10"]
    assert "NaN is not allowed" in reasons["line 11"]
    assert "cannot be stored" in reasons["line 12"]
    assert "no JSON" in reasons["line 13"]
    assert "tokens" in reasons["line 14"]
    assert not any("\n" in reason for reason in reasons.values())


def test_a_file_without_a_usable_sentence_is_an_error_and_makes_no_gallery(tmp_path: Path, encoder: Encoder) -> None:
    gallery = tmp_path / "g"
    missing = tmp_path / "none.jsonl"
    assert "cannot be read: No such file" in message_of(InputError, lambda: index_texts(encoder, missing, gallery))
    empty = jsonl(tmp_path / "empty.jsonl")
    assert "holds no usable sentence" in message_of(InputError, lambda: index_texts(encoder, empty, gallery))
    bad = jsonl(tmp_path / "bad.jsonl", "{")
    assert "sentence: line 1 is no JSON" in message_of(InputError, lambda: index_texts(encoder, bad, gallery))
    assert not gallery.exists()


def test_images_and_sentences_share_a_gallery_and_never_replace_each_other(tmp_path: Path, encoder: Encoder) -> None:
    images = tree(tmp_path / "images", 2)
    file = jsonl(
        tmp_path / "s.jsonl", {"id": "s0/0.png", "text": "a thief"}, {"id": "new.png", "text": "an early bird"}
    )
    index_images(encoder, images, tmp_path / "g")
    report = index_texts(encoder, file, tmp_path / "g")
    assert (report.added, report.skipped[0][0]) == (1, "line 1")
    assert "of an image in the gallery" in report.skipped[0][1]
    picture(images / "new.png")
    report = index_images(encoder, images, tmp_path / "g", prune=True)
    assert counts(report) == (0, 0, 2, 0, 0, 1)
    assert report.skipped[0][0] == "new.png"
    assert ids_in(tmp_path / "g") == ["new.png", "s0/0.png", "s1/1.png"]


def test_decoding_runs_ahead_of_the_session_by_one_batch_at_most(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tree(tmp_path / "images", 40)
    decoded: list[object] = []
    decode = duch.decode.image_to_pixels
    monkeypatch.setattr(duch.decode, "image_to_pixels", lambda *args: decoded.append(args) or decode(*args))
    ahead = []
    encode = encoder.encode_pixels

    def slow(pixels: np.ndarray) -> np.ndarray:
        time.sleep(0.01)
        ahead.append(len(decoded) - sum(len_ for len_ in coded))
        coded.append(len(pixels))
        return encode(pixels)

    coded: list[int] = []
    monkeypatch.setattr(encoder, "encode_pixels", slow)
    index_images(encoder, images, tmp_path / "g", batch_size=4)
    assert max(ahead) <= 8  # this batch and the next
    assert len(decoded) == 40
