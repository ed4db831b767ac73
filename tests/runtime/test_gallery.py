"""The gallery against its document, against crashes and against damage. Every file here is a real one."""

import math
import os
import random
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duch.errors import (
    CodesError,
    GalleryCorruptError,
    GalleryError,
    GalleryLockedError,
    GalleryMismatchError,
    InputError,
)
from duch.gallery import Gallery, GalleryWriter, Tile
from duch.tile import row_crc
from duch.verify import verify

FINGERPRINT = "00112233445566778899aabbccddeeff" * 2
OTHER = "ff" * 32


def codes_of(*numbers: int) -> np.ndarray:
    """One 64-bit code a number, the number itself in big-endian bytes."""
    return np.array([list(struct.pack(">Q", number)) for number in numbers], dtype=np.uint8).reshape(-1, 8)


def image(name: str, **known: Any) -> Tile:
    return Tile(id=name, modality="image", uri=name, **known)


def sentence(name: str, text: str) -> Tile:
    return Tile(id=name, modality="text", text=text)


def writer(folder: Path, **more: Any) -> GalleryWriter:
    return Gallery.writer(folder, fingerprint=FINGERPRINT, n_bits=64, **{"create": True, **more})


def make(folder: Path, n: int = 3) -> Path:
    with writer(folder) as out:
        out.append(codes_of(*range(n)), [image(f"{i}.png") for i in range(n)])
    return folder


def found_ids(gallery: Gallery, number: int, k: int = 10, **more: Any) -> list[str]:
    return [hit.id for hit in gallery.search(codes_of(number), k, **more)[0]]


def message_of(kind: type[Exception], call: Any) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert caught.type is kind
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


def edit(folder: Path, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(folder / "catalog.sqlite")
    with connection:
        connection.execute(statement, values)
    connection.close()


# --- the format ---


def test_the_codes_file_is_a_64_byte_header_and_rows(tmp_path: Path) -> None:
    with writer(tmp_path / "g") as out:
        out.append(codes_of(1, 0x0102030405060708), [image("a"), image("b")])
    assert (tmp_path / "g" / "codes-1.bin").read_bytes() == (
        b"DUCHCODE"
        b"\x02\x00\x00\x00"
        b"\x40\x00\x00\x00"
        b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"
        b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"
        b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        b"\x00\x00\x00\x00\x00\x00\x00\x01"
        b"\x01\x02\x03\x04\x05\x06\x07\x08"
    )


def test_the_columns_file_is_a_64_byte_header_and_groups_of_4096_rows(tmp_path: Path) -> None:
    with writer(tmp_path / "g") as out:
        out.append(codes_of(1), [image("a", footprint=(1, -2, 3, 4.5), time_us=-7)])
        out.append(codes_of(*[2] * 4096), [sentence(str(i), "t") for i in range(4096)])
    data = (tmp_path / "g" / "columns-1.bin").read_bytes()
    assert data[:64] == b"DUCHCOLS" + struct.pack("<II", 2, 4096) + bytes.fromhex(FINGERPRINT) + struct.pack("<Q8x", 1)
    assert len(data) == 64 + 2 * 4096 * 49
    first, second = data[64 : 64 + 4096 * 49], data[64 + 4096 * 49 :]
    values = [
        [struct.unpack_from(f"<{kind}", group, 4096 * before + width * place)[0] for place in places]
        for group, places in ((first, (0, 1, 4095)), (second, (0,)))
        for kind, width, before in (
            *(("q", 8, 0), ("d", 8, 8), ("d", 8, 16), ("d", 8, 24), ("d", 8, 32), ("q", 8, 40)),
            ("B", 1, 48),
        )
    ]
    assert values[0] == [0, 1, 4095]
    assert [column[0] for column in values[1:7]] == [1, -2, 3, 4.5, -7, 0]
    assert all(math.isnan(value) for column in values[1:5] for value in column[1:])
    assert values[5][1:] == [-(2**63)] * 2
    assert values[6] == [0, 1, 1]
    assert values[7] == [4096]


def test_the_catalog_holds_what_the_document_says(tmp_path: Path) -> None:
    tile = Tile(
        id="ü.png",
        modality="image",
        uri="ü.png",
        size=7,
        mtime_ns=-5,
        footprint=(1.5, -2.0, 3, -0.0),
        time_us=9,
        attributes={"b": [1, None], "a": "é"},
    )
    with writer(tmp_path / "g", root=tmp_path / "tiles", bundle_hint=tmp_path / "bundle") as out:
        out.append(codes_of(5), [tile])
    connection = sqlite3.connect(tmp_path / "g" / "catalog.sqlite")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    (row,) = connection.execute("SELECT * FROM tiles")
    expected = (
        *(0, "ü.png", "image", "ü.png", None, 7, -5),
        *(1.5, -2.0, 3.0, 0.0, 9, '{"a":"é","b":[1,null]}', zlib.crc32(codes_of(5).tobytes()), 0),
    )
    assert row[:-1] == expected
    encoded = b""
    for value in expected:  # GALLERY.md, "The CRC of a row"
        if value is None:
            encoded += b"\x00"
        elif isinstance(value, int):
            encoded += b"\x01" + value.to_bytes(8, "little", signed=True)
        elif isinstance(value, float):
            encoded += b"\x02" + struct.pack("<d", value)
        else:
            raw = value.encode()
            encoded += b"\x03" + len(raw).to_bytes(4, "little") + raw
    assert row[-1] == zlib.crc32(encoded)
    columns = struct.pack("<qddddqB", 0, 1.5, -2, 3, 0, 9, 0)
    batch = (0, 1, zlib.crc32(codes_of(5).tobytes()), zlib.crc32(columns))
    assert connection.execute("SELECT * FROM batches").fetchall() == [batch]
    assert dict(connection.execute("SELECT key, value FROM meta")) == {
        "format_version": 2,
        "generation": 1,
        "committed": 1,
        "next_seq": 1,
        "live_images": 1,
        "live_texts": 0,
        "fingerprint": FINGERPRINT,
        "n_bits": 64,
        "root": "../tiles",
        "bundle_hint": "../bundle",
    }
    connection.close()


def test_a_closed_gallery_is_four_files(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    names = ["catalog.sqlite", "codes-1.bin", "columns-1.bin", "writer.lock"]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_writer_leaves_no_commits_in_the_log_even_if_a_reader_outlives_it(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    with writer(folder) as out:
        reader = Gallery.open(folder)
        out.append(codes_of(9), [image("new")])
    log = folder / "catalog.sqlite-wal"
    assert not log.exists() or log.stat().st_size == 0
    assert found_ids(reader, 0) == ["0.png", "1.png", "2.png"]
    reader.close()
    assert read_without_write_permission(folder) == "['0.png', '1.png', '2.png', 'new']"


# --- what goes in comes out ---


def test_a_hit_carries_everything_that_was_stored(tmp_path: Path) -> None:
    with writer(tmp_path / "g") as out:
        out.append(
            codes_of(0, 3),
            [
                image("a/b.png", footprint=(170, -10, -170, 10), time_us=-1, attributes={"cloud": 0.25, "tags": ["x"]}),
                sentence("line", "two ships"),
            ],
        )
    first, second = Gallery.open(tmp_path / "g").search(codes_of(0), 5)[0]
    assert (first.rank, first.distance, first.seq, first.id, first.modality) == (1, 0, 0, "a/b.png", "image")
    assert (first.uri, first.text, first.footprint, first.time_us) == ("a/b.png", None, (170, -10, -170, 10), -1)
    assert first.attributes == {"cloud": 0.25, "tags": ["x"]}
    assert (second.rank, second.distance, second.seq, second.text, second.uri) == (2, 2, 1, "two ships", None)


@pytest.mark.parametrize(
    "name",
    ["ü/日本.png", "a b'c\"d;--.png", "line\nbreak", "nul\0byte", "\u202eright to left", "💥", "x" * 5000, " ", "%41%"],
)
def test_odd_ids_come_back_unchanged(tmp_path: Path, name: str) -> None:
    with writer(tmp_path / "g") as out:
        out.append(codes_of(1, 2), [image(name), image("other")])
        assert out.append(codes_of(9), [image(name)]).replaced == 1
    gallery = Gallery.open(tmp_path / "g")
    assert found_ids(gallery, 9, 1) == [name]
    assert len(gallery) == 2


def test_a_folder_with_an_odd_name_works(tmp_path: Path) -> None:
    folder = tmp_path / "50% ü?x=1#frag \udcff"
    assert found_ids(Gallery.open(make(folder)), 2, 1) == ["2.png"]


def test_an_index_on_an_attribute_does_not_keep_readers_and_writers_out(tmp_path: Path) -> None:
    make(tmp_path / "g")
    edit(tmp_path / "g", "CREATE INDEX tiles_attribute_cloud ON tiles (json_extract(attributes, '$.\"cloud\"'))")
    with writer(tmp_path / "g") as out:
        out.append(codes_of(7), [image("cloudy.png", attributes={"cloud": 80})])
    with Gallery.open(tmp_path / "g") as gallery:
        assert found_ids(gallery, 7, 1) == ["cloudy.png"]


def test_ties_are_ranked_by_seq_across_batches(tmp_path: Path) -> None:
    with writer(tmp_path / "g") as out:
        for start in range(0, 50, 10):
            out.append(codes_of(*[7] * 10), [image(str(i)) for i in range(start, start + 10)])
    hits = Gallery.open(tmp_path / "g").search(codes_of(7), 50)[0]
    assert [hit.seq for hit in hits] == list(range(50))


def test_a_replaced_tile_gets_a_new_seq_and_the_old_one_is_not_found(tmp_path: Path) -> None:
    with writer(tmp_path / "g") as out:
        out.append(codes_of(0, 1), [image("a"), image("b")])
        appended = out.append(codes_of(255), [image("a")])
        assert (list(appended.seqs), appended.replaced, len(out)) == ([2], 1, 2)
    gallery = Gallery.open(tmp_path / "g")
    assert [(hit.id, hit.seq) for hit in gallery.search(codes_of(0), 9)[0]] == [("b", 1), ("a", 2)]
    assert len(gallery) == 2


def test_the_last_of_two_equal_ids_in_one_batch_stays(tmp_path: Path) -> None:
    with writer(tmp_path / "g") as out:
        out.append(codes_of(0, 255), [image("a"), image("a")])
    assert [hit.distance for hit in Gallery.open(tmp_path / "g").search(codes_of(0), 9)[0]] == [8]


def test_a_duplicate_is_refused_on_request_and_nothing_of_its_batch_is_added(tmp_path: Path) -> None:
    with writer(tmp_path / "g") as out:
        out.append(codes_of(0), [image("a")])
        text = message_of(
            InputError, lambda: out.append(codes_of(1, 2), [image("b"), image("a")], on_duplicate="error")
        )
        assert "'a' is in the gallery already" in text
        out.append(codes_of(4), [image("c")], on_duplicate="error")
    assert found_ids(Gallery.open(tmp_path / "g"), 0) == ["a", "c"]


def test_tiles_are_added_and_others_removed_in_one_commit(tmp_path: Path) -> None:
    folder = make(tmp_path / "g", 4)
    with writer(folder) as out:
        done = out.append(
            codes_of(9, 8), [image("1.png"), image("new.png")], remove=["0.png", "1.png", "0.png", "none.png"]
        )
        assert (done.seqs, done.replaced, done.removed) == (range(4, 6), 1, 1)
        assert len(out) == 4
        assert [tile_id for tile_id, _ in out.live_images()] == ["2.png", "3.png", "1.png", "new.png"]
        # What is taken out anyway is no duplicate.
        done = out.append(codes_of(7), [image("2.png")], on_duplicate="error", remove=["2.png"])
        assert (done.replaced, done.removed) == (1, 0)
        message_of(
            InputError, lambda: out.append(codes_of(1), [image("3.png")], on_duplicate="error", remove=["2.png"])
        )
        done = out.append(codes_of(), [], remove=["3.png"])
        assert (len(done.seqs), done.replaced, done.removed) == (0, 0, 1)
    with Gallery.open(folder) as gallery:
        assert sorted(found_ids(gallery, 0)) == ["1.png", "2.png", "new.png"]
        assert found_ids(gallery, 7)[0] == "2.png"
    assert not verify(folder).problems


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from("abcdef"), max_size=5), st.lists(st.sampled_from("abcdefg"), max_size=4)),
        max_size=6,
    )
)
def test_any_appends_and_removals_leave_what_a_dict_would_hold(steps: list[tuple[list[str], list[str]]]) -> None:
    with tempfile.TemporaryDirectory() as base, writer(Path(base) / "g") as out:
        expected: dict[str, int] = {}
        number = 0
        for added, removed in steps:
            numbers = range(number, number + len(added))
            number += len(added)
            there = set(expected)
            done = out.append(codes_of(*numbers), [image(name) for name in added], remove=removed)
            expected = {name: value for name, value in expected.items() if name not in {*removed, *added}}
            expected |= dict(zip(added, numbers, strict=True))
            assert done.seqs == numbers
            assert done.removed == len((there & set(removed)) - set(added))
            assert done.replaced == len(there & set(added)) + len(added) - len(set(added))
            assert len(out) == len(expected)
        with Gallery.open(Path(base) / "g") as gallery:
            found = {
                tile.id: int.from_bytes(code.tobytes(), "big")
                for codes, tiles in gallery.batches()
                for code, tile in zip(codes, tiles, strict=True)
            }
        assert found == expected
        assert not verify(Path(base) / "g").problems


def test_chips_are_found_by_their_scene_and_by_no_name_that_looks_alike(tmp_path: Path) -> None:
    def chip(uri: str, window: str) -> Tile:
        return Tile(id=f"{uri}#{window}", modality="image", uri=uri)

    chips = [chip("a.tif", "-4,0,8,8"), chip("a.tif", "0,0,8,8"), chip("a.tif", "8,0,8,8")]
    others = [
        image("a.tif"),  # the scene, as one image
        image("a.tif#0,8,8,8"),  # a file that is called so
        chip("a.tif#0,0,8,8", "0,0,8,8"),  # a chip of a scene that is called so
        chip("a.tif#b.tif", "0,0,8,8"),
        chip("a.tif$", "0,0,8,8"),
        chip("d/a.tif", "0,0,8,8"),
        Tile(id="a.tif#0,0,8,9", modality="text", text="a chip?"),
        Tile(id="a.tif#b", modality="image", uri="a.tif"),  # a part of another kind
    ]
    with writer(tmp_path / "g") as out:
        out.append(codes_of(*range(11)), [*others, *chips])
        out.remove(["a.tif#8,0,8,8"])
        out.append(codes_of(5), chips[:1])
        assert [(tile.id, tile.uri) for tile in out.chips_of("a.tif")] == [(tile.id, tile.uri) for tile in chips[:2]]
        assert [tile.window for tile in out.chips_of("a.tif")] == [(-4, 0, 8, 8), (0, 0, 8, 8)]
        assert out.chip_of("a.tif").window == (-4, 0, 8, 8)
        assert (out.count_chips("a.tif"), out.count_chips("b.tif")) == (2 + 2, 0)  # two others have such an id
        assert [tile.id for tile in out.chips_of("a.tif#0,0,8,8")] == ["a.tif#0,0,8,8#0,0,8,8"]
        assert (out.chips_of("b.tif"), out.chip_of("b.tif")) == ([], None)


def test_seq_is_not_reused_after_the_last_tile_was_removed(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    with writer(folder) as out:
        assert out.remove(["2.png", "unknown"]) == 1
    with writer(folder) as out:
        assert list(out.append(codes_of(2), [image("2.png")]).seqs) == [3]
    assert found_ids(Gallery.open(folder), 2) == ["2.png", "0.png", "1.png"]


def test_modality_keeps_images_and_sentences_apart(tmp_path: Path) -> None:
    with writer(tmp_path / "g") as out:
        out.append(codes_of(0, 1, 2, 3), [image("i0"), sentence("t0", "a"), image("i1"), sentence("t1", "b")])
        out.remove(["i1"])
    gallery = Gallery.open(tmp_path / "g")
    assert found_ids(gallery, 0) == ["i0", "t0", "t1"]
    assert found_ids(gallery, 0, modality="image") == ["i0"]
    assert found_ids(gallery, 3, modality="text") == ["t1", "t0"]
    assert "wanted image, text" in message_of(InputError, lambda: gallery.search(codes_of(0), 1, modality="audio"))


def test_an_empty_gallery_has_no_hits(tmp_path: Path) -> None:
    gallery = Gallery.create(tmp_path / "g", fingerprint=FINGERPRINT, n_bits=64)
    assert gallery.search(codes_of(1, 2), 5) == [[], []]
    assert gallery.search(codes_of(1), 5, modality="text") == [[]]
    assert (len(gallery), gallery.root, gallery.bundle_hint) == (0, None, None)


def test_a_closed_gallery_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    gallery = Gallery.open(make(tmp_path / "g"))
    gallery.close()
    text = message_of(GalleryError, lambda: gallery.search(codes_of(1), 1))
    assert "was closed; open the gallery again" in text


def test_root_and_bundle_move_with_the_gallery(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "elsewhere" / "new"
    with writer(old / "g", root=old / "tiles \udcfe", bundle_hint=old / "bundle"):
        pass
    new.parent.mkdir()
    old.rename(new)
    gallery = Gallery.open(new / "g")
    assert (gallery.root, gallery.bundle_hint) == (new / "tiles \udcfe", new / "bundle")


# --- crashes ---


def test_bytes_past_the_committed_rows_do_not_exist(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    with open(folder / "codes-1.bin", "ab") as file:
        file.write(b"\xff" * 21)
    gallery = Gallery.open(folder)
    assert (len(gallery), gallery.codes.shape) == (3, (3, 8))
    with writer(folder) as out:
        out.append(codes_of(77), [image("new")])
    assert found_ids(Gallery.open(folder), 77, 1) == ["new"]
    assert (folder / "codes-1.bin").read_bytes()[64 + 24 : 64 + 32] == codes_of(77).tobytes()


CHILD = f"""
import sys
from duch.gallery import Gallery, Tile
import numpy as np
folder, start = sys.argv[1], int(sys.argv[2])
with Gallery.writer(folder, fingerprint={FINGERPRINT!r}, n_bits=64, create=True) as out:
    for first in range(start, start + 100_000, 5):
        codes = np.array([list(i.to_bytes(8, "big")) for i in range(first, first + 5)], dtype=np.uint8)
        out.append(codes, [Tile(id=str(i), modality="image", uri=str(i)) for i in range(first, first + 5)])
        print(first, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    chance = random.Random(0)
    acknowledged: set[str] = set()
    for attempt in range(5):
        start = attempt * 1_000_000
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder), str(start)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        timer = threading.Timer(chance.uniform(0.001, 0.15), child.send_signal, [signal.SIGKILL])
        timer.start()
        lines += child.stdout.readlines()
        assert child.wait() == -signal.SIGKILL
        for line in lines:
            if line.endswith("\n"):
                acknowledged |= {str(i) for i in range(int(line), int(line) + 5)}
        gallery = Gallery.open(folder)
        hits = gallery.search(codes_of(0), len(gallery))[0]
        present = {hit.id for hit in hits}
        assert acknowledged <= present
        assert len(present) == len(gallery) <= len(acknowledged) + 5 * (attempt + 1)
        for hit in hits:  # every id has its own code
            assert hit.distance == int(hit.id).bit_count()
        gallery.close()


def test_a_creation_that_was_cut_short_is_no_gallery_and_can_be_repeated(tmp_path: Path) -> None:
    folder = make(tmp_path / "g", 0)
    (folder / "catalog.sqlite").rename(folder / "catalog.sqlite.partial")
    assert "holds no catalog.sqlite" in message_of(GalleryError, lambda: Gallery.open(folder))
    make(folder)
    assert len(Gallery.open(folder)) == 3
    assert not (folder / "catalog.sqlite.partial").exists()


def test_codes_whose_catalog_is_lost_are_not_overwritten(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    (folder / "catalog.sqlite").unlink()
    text = message_of(GalleryError, lambda: writer(folder))
    assert re.search("holds (codes|columns)-1.bin and no catalog.sqlite", text)
    assert (folder / "codes-1.bin").stat().st_size == 64 + 24


def test_a_full_disk_is_one_line_that_counts_the_safe_tiles(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    script = f"""
import resource, sys
import numpy as np
from duch.errors import GalleryError
from duch.gallery import Gallery, Tile
folder, limit, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Gallery.writer(folder, fingerprint={FINGERPRINT!r}, n_bits=64) as out:
    out.append(np.zeros((2, 8), dtype=np.uint8), [Tile(id="x", modality="image"), Tile(id="y", modality="image")])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for call in range(2):
        try:
            out.append(np.ones((n, 8), dtype=np.uint8), [Tile(id=str(i), modality="image") for i in range(n)])
        except GalleryError as error:
            print(type(error).__name__, error)
"""
    for limit, n in ((4096, 1000), (100_000, 5000)):  # the codes file fails, then the catalog
        out = subprocess.run(
            [sys.executable, "-c", script, str(folder), str(limit), str(n)], capture_output=True, text=True, check=True
        )
        first, second = out.stdout.splitlines()
        assert first.startswith("GalleryError ")
        assert "5 tiles are safe, so make room on the disk" in first
        assert "an earlier write" in second
        gallery = Gallery.open(folder)
        assert len(gallery) == 5
        assert sorted(found_ids(gallery, 0)) == ["0.png", "1.png", "2.png", "x", "y"]
        gallery.close()


# --- many processes ---


def test_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    with writer(folder):
        text = message_of(GalleryLockedError, lambda: writer(folder))
        assert str(folder / "writer.lock") in text
        assert f"process {os.getpid()}" in text
    writer(folder).close()


def test_a_reader_keeps_its_snapshot_while_a_writer_appends_and_replaces(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    with writer(folder) as out:
        reader = Gallery.open(folder)
        out.append(codes_of(0, 1), [image("new"), sentence("1.png", "replaces the image")])
        out.remove(["2.png"])
        assert found_ids(reader, 0) == ["0.png", "1.png", "2.png"]
        assert found_ids(reader, 0, modality="image") == ["0.png", "1.png", "2.png"]
        assert found_ids(reader, 0, modality="text") == []
        assert found_ids(Gallery.open(folder), 0) == ["0.png", "new", "1.png"]


def test_readers_in_many_threads_see_whole_batches_while_a_writer_appends(tmp_path: Path) -> None:
    folder = make(tmp_path / "g", 0)
    sizes: list[int] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                with Gallery.open(folder) as gallery:
                    hits = gallery.search(codes_of(0), 1000)[0]
                    assert len(hits) == len(gallery)
                    sizes.append(len(hits))
        except BaseException as error:  # a thread's assertion would be lost
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    with writer(folder) as out:
        for batch in range(40):
            out.append(codes_of(*range(7)), [image(f"{batch}-{i}") for i in range(7)])
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert {size % 7 for size in sizes} == {0}


# --- read-only media ---


READ_ONLY_CHILD = """
import os, sys
import numpy as np
from duch.errors import GalleryError
from duch.gallery import Gallery
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    open(sys.argv[1] + "/probe", "w")
    print("writable")
except OSError:
    try:
        print([hit.id for hit in Gallery.open(sys.argv[1]).search(np.zeros((1, 8), dtype=np.uint8), 9)[0]])
    except GalleryError as error:
        print(error)
"""


def read_without_write_permission(folder: Path) -> str:
    """Search in a copy of a gallery that the reading process may not write."""
    outside = tempfile.mkdtemp(prefix="duch-test-")  # pytest's own folders are closed to other users
    try:
        copy = Path(outside, "g")
        shutil.copytree(folder, copy)
        os.chmod(outside, 0o755)
        os.chmod(copy, 0o555)
        for file in copy.iterdir():
            os.chmod(file, 0o444)
        out = subprocess.run(
            [sys.executable, "-c", READ_ONLY_CHILD, str(copy)], capture_output=True, text=True, check=True
        ).stdout.strip()
        if out == "writable":
            pytest.skip("this system lets any user write anywhere")
        return out
    finally:
        os.chmod(copy, 0o755)
        shutil.rmtree(outside)


def test_a_gallery_on_read_only_media_can_be_searched(tmp_path: Path) -> None:
    assert read_without_write_permission(make(tmp_path / "g")) == "['0.png', '1.png', '2.png']"


def test_commits_in_a_left_over_log_are_not_overlooked_on_read_only_media(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    with writer(folder) as out:
        out.append(codes_of(4), [image("in the log")])
        snapshot = shutil.copytree(folder, tmp_path / "copied while open")
    (snapshot / "catalog.sqlite-shm").unlink()
    out_text = read_without_write_permission(snapshot)
    assert "catalog.sqlite-wal holds writes that are not in the catalog yet" in out_text
    assert len(Gallery.open(snapshot)) == 4  # where the folder can be written


# --- what must be refused ---


def test_another_bundle_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    for call in (
        lambda: Gallery.writer(folder, fingerprint=OTHER, n_bits=64),
        lambda: Gallery.open(folder).check_bundle(fingerprint=OTHER, n_bits=64),
    ):
        text = message_of(GalleryMismatchError, call)
        assert FINGERPRINT[:12] in text
        assert OTHER[:12] in text
        assert "use the gallery's own bundle" in text
    text = message_of(GalleryMismatchError, lambda: Gallery.writer(folder, fingerprint=FINGERPRINT, n_bits=128))
    assert "64-bit" in text
    assert "128 bits" in text
    writer(folder).close()  # the refused writer gave the lock back


def test_what_is_no_gallery_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").write_text("x")
    assert "does not exist" in message_of(GalleryError, lambda: Gallery.open(tmp_path / "none"))
    assert "is a file" in message_of(GalleryError, lambda: Gallery.open(tmp_path / "file"))
    assert "is a file" in message_of(GalleryError, lambda: writer(tmp_path / "file"))
    assert "holds photo.jpg" in message_of(GalleryError, lambda: writer(tmp_path / "full"))
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["photo.jpg"]
    missing = tmp_path / "none"
    assert "does not exist" in message_of(GalleryError, lambda: writer(missing, create=False))
    assert not missing.exists()
    make(tmp_path / "g")
    again = message_of(GalleryError, lambda: Gallery.create(tmp_path / "g", fingerprint=FINGERPRINT, n_bits=64))
    assert "is a gallery already" in again


@pytest.mark.parametrize(
    ("codes", "tiles", "kind", "message"),
    [
        (codes_of(1), [], CodesError, "1 codes for 0 tiles"),
        (np.zeros((1, 4), dtype=np.uint8), [image("a")], CodesError, "codes have 32 bits; wanted 64"),
        (np.zeros((1, 8)), [image("a")], CodesError, "codes are float64"),
        (codes_of(1), [image("")], InputError, "empty id"),
        (codes_of(1), [image("\ud800")], InputError, "'\\ud800' cannot be stored"),
        (codes_of(1), [image("a", attributes={"x": float("nan")})], InputError, "cannot be stored"),
        (codes_of(1), [image("a", attributes={"x": {1, 2}})], InputError, "cannot be stored"),
        (codes_of(1), [image("a", time_us=2**63)], InputError, "does not fit 64 bits"),
        (codes_of(1), [image("a", footprint=(0, 0, float("inf"), 1))], InputError, "wanted west, south, east, north"),
        (codes_of(1), [Tile(id="a", modality="audio")], InputError, "wanted image or text"),  # type: ignore[arg-type]
    ],
)
def test_a_batch_that_cannot_be_stored_is_refused_and_the_writer_lives_on(
    tmp_path: Path, codes: Any, tiles: list[Tile], kind: type[Exception], message: str
) -> None:
    with writer(tmp_path / "g") as out:
        assert message in message_of(kind, lambda: out.append(codes, tiles))
        out.append(codes_of(1), [image("good")])
    assert found_ids(Gallery.open(tmp_path / "g"), 1) == ["good"]


# --- damage ---


def test_truncated_codes_are_found_at_opening(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    os.truncate(folder / "codes-1.bin", 64 + 23)
    for call in (lambda: Gallery.open(folder), lambda: writer(folder)):
        assert "is truncated: 87 bytes, wanted at least 88" in message_of(GalleryCorruptError, call)
    os.truncate(folder / "codes-1.bin", 0)
    assert "has nothing at byte 0 of its header" in message_of(GalleryCorruptError, lambda: Gallery.open(folder))
    (folder / "codes-1.bin").unlink()
    assert "codes-1.bin is missing" in message_of(GalleryCorruptError, lambda: Gallery.open(folder))


@pytest.mark.parametrize("name", ["codes-1.bin", "columns-1.bin"])
@pytest.mark.parametrize("offset", [0, 7, 12, 16, 47, 48, 63])
def test_any_changed_header_byte_is_found_at_opening(tmp_path: Path, name: str, offset: int) -> None:
    folder = make(tmp_path / "g")
    data = bytearray((folder / name).read_bytes())
    data[offset] ^= 1
    (folder / name).write_bytes(data)
    assert f"{name} has " in (text := message_of(GalleryCorruptError, lambda: Gallery.open(folder)))
    assert f"at byte {offset} of its header; wanted" in text


@pytest.mark.parametrize("name", ["codes-1.bin", "columns-1.bin"])
def test_a_newer_format_of_a_file_is_told_from_damage(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "g")
    data = bytearray((folder / name).read_bytes())
    data[8] = 3
    (folder / name).write_bytes(data)
    assert "has format version 3; this duch reads 2, so update" in message_of(
        GalleryError, lambda: Gallery.open(folder)
    )


@pytest.mark.parametrize(("version", "advice"), [(1, "so index into a new folder"), (7, "so update duch")])
def test_another_format_is_told_from_damage(tmp_path: Path, version: int, advice: str) -> None:
    folder = make(tmp_path / "g")
    crc = row_crc(("format_version", version))
    edit(folder, "UPDATE meta SET value = ?, crc = ? WHERE key = 'format_version'", version, crc)
    for call in (lambda: Gallery.open(folder), lambda: writer(folder)):
        assert f"has format version {version}; this duch reads 2, {advice}" in message_of(GalleryError, call)


@pytest.mark.parametrize("content", [b"", b"no database at all " * 300, b"SQLite format 3\0" + b"\0" * 4080])
def test_a_catalog_that_is_no_database_is_one_line(tmp_path: Path, content: bytes) -> None:
    folder = make(tmp_path / "g")
    (folder / "catalog.sqlite").write_bytes(content)
    for call in (lambda: Gallery.open(folder), lambda: writer(folder)):
        assert "catalog.sqlite is damaged" in message_of(GalleryCorruptError, call)


def test_a_truncated_catalog_is_one_line(tmp_path: Path) -> None:
    folder = make(tmp_path / "g", 300)
    size = (folder / "catalog.sqlite").stat().st_size
    for length in (size - 4096, size // 2, 4096, 100):
        os.truncate(folder / "catalog.sqlite", length)

        def use() -> None:
            with Gallery.open(folder) as gallery:
                found_ids(gallery, 0, 300)

        assert "catalog.sqlite is damaged" in message_of(GalleryCorruptError, use)


@pytest.mark.parametrize(
    "key", ["format_version", "generation", "committed", "live_images", "n_bits", "fingerprint", "root"]
)
def test_a_changed_meta_value_is_found_at_opening(tmp_path: Path, key: str) -> None:
    folder = make(tmp_path / "g")
    edit(folder, "UPDATE meta SET value = 5 WHERE key = ?", key)
    assert f"{key!r} of table meta differs" in message_of(GalleryCorruptError, lambda: Gallery.open(folder))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", "1.pnh"),
        ("modality", "imagf"),
        ("uri", None),
        ("uri", "1.pn\x00"),
        ("uri", b"1.png"),
        ("text", ""),
        ("size", 4),
        ("mtime_ns", 1.5),
        ("west", 0.0),
        ("time_us", 0),
        ("attributes", "{"),
        ("code_crc", 1),
        ("crc", 1),
    ],
)
def test_a_changed_column_is_found_when_its_tile_is_a_hit(tmp_path: Path, column: str, value: Any) -> None:
    folder = make(tmp_path / "g")
    edit(folder, f"UPDATE tiles SET {column} = ? WHERE seq = 1", value)
    gallery = Gallery.open(folder)
    assert found_ids(gallery, 0, 1) == ["0.png"]  # other hits are not held up
    assert "tile 1 of table tiles differs" in message_of(GalleryCorruptError, lambda: gallery.search(codes_of(1), 3))


def test_a_flipped_bit_inside_stored_text_is_found_even_if_it_is_no_utf8(tmp_path: Path) -> None:
    folder = make(tmp_path / "g", 0)
    with writer(folder) as out:
        out.append(codes_of(0), [sentence("a", "needle in a haystack")])
    data = bytearray((folder / "catalog.sqlite").read_bytes())
    data[data.index(b"needle")] ^= 0x80
    (folder / "catalog.sqlite").write_bytes(data)
    gallery = Gallery.open(folder)
    assert "tile 0 of table tiles differs" in message_of(GalleryCorruptError, lambda: gallery.search(codes_of(0), 1))


@pytest.mark.parametrize("change", ["DELETE FROM tiles WHERE seq = 2", "UPDATE tiles SET seq = 9 WHERE seq = 2"])
def test_a_tile_that_vanished_is_found_when_it_is_a_hit(tmp_path: Path, change: str) -> None:
    folder = make(tmp_path / "g")
    edit(folder, change)
    gallery = Gallery.open(folder)
    assert "the catalog has no tile 2" in message_of(GalleryCorruptError, lambda: gallery.search(codes_of(2), 1))


def test_a_removed_tile_that_the_index_has_lost_is_found_at_opening(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    with writer(folder) as out:
        out.remove(["1.png"])
    root = sqlite3.connect(folder / "catalog.sqlite").execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'tiles_deleted_id'"
    )
    data = bytearray((folder / "catalog.sqlite").read_bytes())
    page = (root.fetchone()[0] - 1) * 4096
    assert data[page + 4] == 1  # entries on this page of the index
    data[page + 4] = 0
    (folder / "catalog.sqlite").write_bytes(data)
    text = message_of(GalleryCorruptError, lambda: Gallery.open(folder))
    assert "0 of 3 tiles are removed, and it counts 2 that are not" in text


@pytest.mark.parametrize(
    ("name", "offset", "told"),
    [
        ("codes-1.bin", 64 + 2 * 8 + 7, "the code of tile '2.png' differs from its checksum"),
        ("columns-1.bin", 64 + 2 * 8, "the catalog has no tile 3"),
        ("columns-1.bin", 64 + 4096 * 8 + 2 * 8, "a row of the columns file differs from the catalog"),
        ("columns-1.bin", 64 + 4096 * 48 + 2, "a row of the columns file differs from the catalog"),
    ],
)
def test_a_flipped_bit_of_a_mapped_file_is_found_when_its_tile_is_a_hit(
    tmp_path: Path, name: str, offset: int, told: str
) -> None:
    folder = make(tmp_path / "g")
    data = bytearray((folder / name).read_bytes())
    data[offset] ^= 1
    (folder / name).write_bytes(data)
    gallery = Gallery.open(folder)
    assert found_ids(gallery, 0, 1) == ["0.png"]
    assert told in message_of(GalleryCorruptError, lambda: gallery.search(codes_of(2), 3))
