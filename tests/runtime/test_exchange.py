"""Exports and imports: everything comes back as it was, and what is no export is one line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duch.errors import DuchError, GalleryCorruptError, GalleryError, GalleryMismatchError, InputError
from duch.exchange_csv import FolderExport
from duch.gallery import Gallery, Tile
from duch.gallery_export import export_gallery
from duch.gallery_import import import_gallery
from duch.verify import verify

from .some_gallery import FINGERPRINT, OTHER, code, flip, some_gallery, some_tiles, writer

FORMS = ["folder", "parquet"]
COLUMNS = "id,modality,uri,text,size,mtime_ns,west,south,east,north,time_us,attributes,seq"


def place(folder: Path, form: str, name: str = "export") -> Path:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    return folder / (f"{name}.parquet" if form == "parquet" else name)


def contents(folder: Path) -> list[tuple[bytes, Tile]]:
    """Codes and tiles in seq order, without what a gallery adds to them."""
    with Gallery.open(folder) as gallery:
        return [
            (number.tobytes(), Tile(**{name: getattr(tile, name) for name in Tile.__dataclass_fields__}))
            for codes, tiles in gallery.batches()
            for number, tile in zip(codes, tiles, strict=True)
        ]


def refused(kind: type[DuchError], call: Callable[[], Any]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert caught.type is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- there and back ---


@pytest.mark.parametrize("form", FORMS)
def test_a_gallery_comes_back_as_it_was(tmp_path: Path, form: str) -> None:
    source = some_gallery(tmp_path / "g", 60, root=tmp_path / "tiles", bundle_hint=tmp_path)
    out = place(tmp_path, form)
    steps: list[tuple[int, int]] = []
    assert export_gallery(source, out, on_progress=lambda *step: steps.append(step)) == 55
    assert steps[-1] == (55, 55)
    report = import_gallery([out], tmp_path / "back", on_progress=lambda *step: steps.append(step))
    assert (report.added, report.replaced) == (55, 0)
    assert steps[-1] == (55, 55)
    assert contents(tmp_path / "back") == contents(source)
    assert verify(tmp_path / "back").problems == []
    with Gallery.open(tmp_path / "back") as gallery:
        assert (gallery.root, gallery.bundle_hint) == (tmp_path / "tiles", tmp_path)
        assert gallery.fingerprint == FINGERPRINT


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_gallery_comes_back_empty(tmp_path: Path, form: str) -> None:
    Gallery.create(tmp_path / "g", fingerprint=FINGERPRINT, n_bits=64).close()
    out = place(tmp_path, form)
    export_gallery(tmp_path / "g", out)
    import_gallery([out], tmp_path / "back")
    assert contents(tmp_path / "back") == []


def test_a_folder_is_what_the_document_says(tmp_path: Path) -> None:
    tile = Tile(id="\\N", modality="text", text='a "b",\r\nc', time_us=-1, attributes={"x": -0.0})
    with writer(tmp_path / "g", root=tmp_path / "tiles") as out:
        out.append(code(1), [Tile(id="gone", modality="image")])
        out.append(
            code(0x0102030405060708), [tile, Tile(id="b", modality="image", uri="", footprint=(1, -0.5, 2.0, 0.1))][:1]
        )
        out.append(code(3), [Tile(id="b", modality="image", uri="", footprint=(1, -0.5, 2.0, 0.1))])
        out.remove(["gone"])
    export_gallery(tmp_path / "g", tmp_path / "export")
    assert sorted(os.listdir(tmp_path / "export")) == ["codes.npy", "gallery.json", "tiles.csv"]
    assert (tmp_path / "export" / "tiles.csv").read_bytes().decode() == (
        f"{COLUMNS}\r\n"
        '\\\\N,text,\\N,"a ""b"",\r\nc",\\N,\\N,\\N,\\N,\\N,\\N,-1,"{""x"":-0.0}",1\r\n'
        "b,image,,\\N,\\N,\\N,1.0,-0.5,2.0,0.1,\\N,\\N,2\r\n"
    )
    codes = np.load(tmp_path / "export" / "codes.npy", allow_pickle=False)
    assert codes.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 0, 0, 0, 0, 0, 3]]
    assert json.loads((tmp_path / "export" / "gallery.json").read_text()) == {
        "format": "duch-gallery-export",
        "format_version": 1,
        "fingerprint": FINGERPRINT,
        "n_bits": 64,
        "root": "../tiles",
        "bundle_hint": None,
    }


def test_a_parquet_file_is_what_the_document_says(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export_gallery(some_gallery(tmp_path / "g"), tmp_path / "export.parquet")
    table = parquet.read_table(tmp_path / "export.parquet")
    assert table.schema.names == [*COLUMNS.split(","), "code"]
    assert str(table.schema.field("code").type) == "fixed_size_binary[8]"
    about = json.loads(table.schema.metadata[b"duch"])
    assert (about["fingerprint"], about["n_bits"], about["format_version"]) == (FINGERPRINT, 64, 1)
    with Gallery.open(tmp_path / "g") as gallery:
        assert b"".join(table["code"].to_pylist()) == b"".join(codes.tobytes() for codes, _ in gallery.batches())


texts = st.text(max_size=20) | st.sampled_from(
    ["\\N", "\\", "\\\\N", "", '"', ",", "\r", "\n", "\r\n", "\0", "\ufeff", " x "]
)
ids = texts.filter(bool)
numbers = st.none() | st.integers(-(2**63) + 1, 2**63 - 1)
reals = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | reals | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=4,
)
tiles_strategy = st.lists(
    st.builds(
        Tile,
        id=ids,
        modality=st.sampled_from(["image", "text"]),
        uri=st.none() | texts,
        text=st.none() | texts,
        size=numbers,
        mtime_ns=numbers,
        footprint=st.none() | st.tuples(reals, reals, reals, reals),
        time_us=numbers,
        attributes=st.dictionaries(texts, json_values, max_size=3),
    ),
    max_size=5,
    unique_by=lambda tile: tile.id,
)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=8, deadline=None)
@given(tiles=tiles_strategy)
def test_whatever_a_tile_holds_comes_back(
    tmp_path_factory: pytest.TempPathFactory, form: str, tiles: list[Tile]
) -> None:
    folder = tmp_path_factory.mktemp("exchange")
    with writer(folder / "g") as out:
        out.append(np.arange(8 * len(tiles), dtype=np.uint8).reshape(-1, 8), tiles)
    export = place(folder, form)
    export_gallery(folder / "g", export)
    import_gallery([export], folder / "back")
    assert contents(folder / "back") == contents(folder / "g")


def test_long_texts_come_back(tmp_path: Path) -> None:
    with writer(tmp_path / "g") as out:
        out.append(code(1), [Tile(id="a", modality="text", text="ü" * 300_000)])
    limit = csv.field_size_limit()
    export_gallery(tmp_path / "g", tmp_path / "export")
    import_gallery([tmp_path / "export"], tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tmp_path / "g")
    assert csv.field_size_limit() == limit


# --- several sources, galleries that exist ---


def test_reading_an_export_leaves_the_limit_of_other_csv_readers_alone(tmp_path: Path) -> None:
    export_gallery(some_gallery(tmp_path / "g", 60), tmp_path / "export")
    before = csv.field_size_limit()
    first, second = (FolderExport(tmp_path / "export").batches(20) for _ in range(2))
    next(first)
    assert csv.field_size_limit() == before
    next(second)
    first.close()
    list(second)
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("form", FORMS)
def test_several_sources_come_one_after_another(tmp_path: Path, form: str) -> None:
    galleries = [some_gallery(tmp_path / name, 40, f"{name}/", seed) for seed, name in enumerate("ba")]
    exports = [place(tmp_path, form, f"export-{number}") for number in range(2)]
    for gallery, export in zip(galleries, exports, strict=True):
        export_gallery(gallery, export)
    assert import_gallery(exports, tmp_path / "back").added == 72
    assert contents(tmp_path / "back") == [entry for gallery in galleries for entry in contents(gallery)]


def test_into_a_gallery_that_exists(tmp_path: Path) -> None:
    some_gallery(tmp_path / "a", 40, "a/", 1, root=tmp_path / "tiles")
    some_gallery(tmp_path / "b", 40, "b/", 2, root=tmp_path / "tiles")
    export_gallery(tmp_path / "b", tmp_path / "export")
    import_gallery([tmp_path / "export"], tmp_path / "a")
    with Gallery.open(tmp_path / "a") as gallery:
        assert len(gallery) == 72
    before = contents(tmp_path / "a")
    message = refused(InputError, lambda: import_gallery([tmp_path / "export"], tmp_path / "a"))
    assert "is in the gallery already; nothing was imported" in message
    assert contents(tmp_path / "a") == before
    report = import_gallery([tmp_path / "export"], tmp_path / "a", on_duplicate="replace")
    assert (report.added, report.replaced) == (36, 36)
    assert contents(tmp_path / "a") == before


@pytest.mark.parametrize("exists", [True, False])
def test_an_id_that_comes_twice_is_refused_before_anything_is_written(tmp_path: Path, exists: bool) -> None:
    export_gallery(some_gallery(tmp_path / "b", 40), tmp_path / "export")
    twice = [tmp_path / "export"] * 2
    if exists:
        some_gallery(tmp_path / "a", 3, "a/")
    assert "tile" in refused(InputError, lambda: import_gallery(twice, tmp_path / "a"))
    assert not exists or len(contents(tmp_path / "a")) == 3
    assert exists or sorted(os.listdir(tmp_path)) == ["b", "export"]
    assert import_gallery(twice, tmp_path / "a", on_duplicate="replace").replaced == 36


def test_uris_of_a_root_below_are_written_anew_and_another_root_is_refused(tmp_path: Path) -> None:
    for name, root in (("a", "tiles"), ("b", "tiles/b"), ("c", "other")):
        with writer(tmp_path / name, root=tmp_path / root) as out:
            out.append(code(1), [Tile(id="x.png", modality="image", uri="x.png")])
    export_gallery(tmp_path / "b", tmp_path / "export")
    export_gallery(tmp_path / "c", tmp_path / "export-c")
    import_gallery([tmp_path / "export"], tmp_path / "a")
    assert [(tile.id, tile.uri) for _, tile in contents(tmp_path / "a")] == [("x.png",) * 2, ("b/x.png",) * 2]
    message = refused(InputError, lambda: import_gallery([tmp_path / "export-c"], tmp_path / "a"))
    assert f"outside {tmp_path / 'tiles'}" in message


@pytest.mark.parametrize("form", FORMS)
def test_chips_come_back_below_another_root(tmp_path: Path, form: str) -> None:
    ring = [[[12.5, -0.25], [12.75, -0.25], [12.75, 0.1234567], [12.5, -0.25]]]
    known = {"geometry": {"type": "Polygon", "coordinates": ring}, "bands": [4, 3, 2], "range": [[0, 3000.5]]}
    chips = [
        Tile(id=f"s.tif#{x},0,32,32", modality="image", uri="s.tif", size=5, mtime_ns=6, attributes=known)
        for x in (-16, 0, 16)
    ]
    with writer(tmp_path / "b", root=tmp_path / "tiles" / "b") as out:
        out.append(np.concatenate([code(number) for number in range(3)]), chips)
    writer(tmp_path / "a", root=tmp_path / "tiles").close()
    export = place(tmp_path, form)
    export_gallery(tmp_path / "b", export)
    import_gallery([export], tmp_path / "a")
    assert contents(tmp_path / "a") == [
        (code(number).tobytes(), replace(chip, id=f"b/{chip.id}", uri="b/s.tif")) for number, chip in enumerate(chips)
    ]


def test_codes_of_other_bundles_are_refused(tmp_path: Path) -> None:
    Gallery.create(tmp_path / "other", fingerprint=OTHER, n_bits=64).close()
    export_gallery(tmp_path / "other", tmp_path / "export-other")
    export_gallery(some_gallery(tmp_path / "a", 3), tmp_path / "export")
    exports = [tmp_path / "export", tmp_path / "export-other"]
    assert "exports of one bundle" in refused(GalleryMismatchError, lambda: import_gallery(exports, tmp_path / "new"))
    assert "use the gallery's own" in refused(GalleryMismatchError, lambda: import_gallery(exports[1:], tmp_path / "a"))
    assert not (tmp_path / "new").exists()


# --- what goes wrong ---


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_gallery_makes_no_export(tmp_path: Path, form: str) -> None:
    folder = some_gallery(tmp_path / "g")
    out = place(tmp_path, form)
    flip(folder / "codes-1.bin", 64 + 8 * 7)
    refused(GalleryCorruptError, lambda: export_gallery(folder, out))
    assert os.listdir(tmp_path) == ["g"]


def test_places_that_are_taken_are_left_alone(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g", 3)
    export_gallery(folder, tmp_path / "export")
    assert "is not empty" in refused(GalleryError, lambda: export_gallery(folder, tmp_path / "export"))
    assert "is a gallery already" in refused(GalleryError, lambda: export_gallery(folder, folder))
    assert "is not empty" in refused(GalleryError, lambda: import_gallery([tmp_path / "export"], tmp_path))
    missing = place(tmp_path / "none", "parquet")
    assert "does not exist" in refused(GalleryError, lambda: export_gallery(folder, missing))


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(export: Path) -> None:
        (export / name).write_bytes(change((export / name).read_bytes()))

    return apply


def about(**changes: Any) -> Callable[[Path], None]:
    return rewrite("gallery.json", lambda raw: json.dumps({**json.loads(raw), **changes}).encode())


def npy(array: np.ndarray, **more: Any) -> Callable[[Path], None]:
    return lambda export: np.save(export / "codes.npy", array, **more)


HOSTILE: list[tuple[Callable[[Path], Any], str]] = [
    (lambda export: (export / "gallery.json").unlink(), "gallery.json cannot be read"),
    (lambda export: (export / "tiles.csv").unlink(), "tiles.csv cannot be read"),
    (lambda export: (export / "codes.npy").unlink(), "codes.npy cannot be read"),
    (rewrite("gallery.json", lambda raw: b"{" * 100_000), "gallery.json is no JSON"),
    (rewrite("gallery.json", lambda raw: b'{"a":' * 100_000), "gallery.json is no JSON"),
    (rewrite("gallery.json", lambda raw: b"[]"), "does not name the format"),
    (about(format="x"), "does not name the format"),
    (about(format_version=2), "has format version 2; this duch reads 1"),
    (about(n_bits=63), "wanted a fingerprint"),
    (about(n_bits=2**70), "wanted a fingerprint"),
    (about(n_bits=True), "wanted a fingerprint"),
    (about(fingerprint="A" * 64), "wanted a fingerprint"),
    (about(root="a\0"), "wanted a fingerprint"),
    (about(bundle_hint="\ud800"), "wanted a fingerprint"),
    (about(n_bits=128), "holds uint8 (9, 8); wanted uint8 (n, 16)"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b"mtime_ns", b"mtime", 1)), "has the columns id, modality"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b"size", b"id", 1)), "has the columns id, modality"),
    (rewrite("tiles.csv", lambda raw: b""), "has the columns ;"),
    (rewrite("tiles.csv", lambda raw: raw + b"a,b\r\n"), "line 14 of"),
    (rewrite("tiles.csv", lambda raw: raw[: raw.rindex(b"\r\n", 0, -2) + 2]), "has 8 tiles, codes.npy 9 codes"),
    (rewrite("tiles.csv", lambda raw: raw + raw.splitlines(True)[-1]), "has more lines than codes.npy codes, 9"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b"1001", b"0x1", 1)), "has size '0x1'; wanted an integer"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b"1001", b"9" * 19, 1)), "which does not fit 64 bits"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b"-179.0", b"nan", 1)), "has west 'nan'; wanted a number"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b"-179.0", b"1e999", 1)), "wanted west, south, east, north"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b"-179.0", b"\\N", 1)), "wanted four numbers, or none"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b"image", b"video", 1)), "wanted image or text"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b"s2/0002.png,image", b"\\N,image", 1)), "has the id None"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b"s2/0002.png,image", b",image", 1)), "empty id"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b'""cloud""', b'""cloud', 1)), "attributes that are no JSON"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b"null", b"NaN", 1)), "NaN is no JSON"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b"null", b"1e999", 1)), "attributes that are no JSON"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b'"{', b'"[1]"\r\n"', 1)), "line"),
    (rewrite("tiles.csv", lambda raw: raw + b'"'), "is no CSV"),
    (rewrite("tiles.csv", lambda raw: raw.replace(b"s2/", b"\xff2/", 1)), "is no UTF-8"),
    (rewrite("codes.npy", lambda raw: raw[:-1]), "has 199 bytes; wanted 200 for 9 codes"),
    (rewrite("codes.npy", lambda raw: raw + b"x"), "has 201 bytes; wanted 200"),
    (rewrite("codes.npy", lambda raw: raw[:40]), "is no NPY file"),
    (rewrite("codes.npy", lambda raw: b"PK\3\4" + raw), "is no NPY file"),
    (rewrite("codes.npy", lambda raw: b"\x93NUMPY\2\0\xff\xff\xff\x7f" + b" " * 50_000), "is no NPY file"),
    (rewrite("codes.npy", lambda raw: raw.replace(b"(9, 8)", b"(9,8**9)")), "is no NPY file"),
    (rewrite("codes.npy", lambda raw: raw.replace(b"(9, 8)", b"(-9,8)")), "has 200 bytes; wanted 56 for -9 codes"),
    (npy(np.array([[None] * 8] * 9), allow_pickle=True), "holds object (9, 8); wanted uint8"),
    (npy(np.zeros((9, 8), dtype=np.int8)), "holds int8 (9, 8); wanted uint8"),
    (npy(np.zeros((8, 9), dtype=np.uint8).T), "row after row"),
    (npy(np.zeros(72, dtype=np.uint8)), "holds uint8 (72,)"),
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an export of nine tiles, and a gallery of others, which no test changes."""
    folder = tmp_path_factory.mktemp("good")
    with writer(folder / "g") as out:
        out.append(np.zeros((9, 8), dtype=np.uint8), some_tiles(9))
    export_gallery(folder / "g", folder / "export")
    some_gallery(folder / "old", 3, "old/")
    return folder


@pytest.mark.parametrize(("damage", "message"), HOSTILE, ids=[message for _, message in HOSTILE])
def test_a_folder_that_is_no_export_is_one_line(tmp_path: Path, good: Path, damage: Any, message: str) -> None:
    shutil.copytree(good / "export", tmp_path / "export")
    damage(tmp_path / "export")
    assert message in refused(InputError, lambda: import_gallery([tmp_path / "export"], tmp_path / "new"))
    assert os.listdir(tmp_path) == ["export"]
    assert message in refused(InputError, lambda: import_gallery([tmp_path / "export"], good / "old"))
    assert len(contents(good / "old")) == 3


def test_a_parquet_file_that_is_no_export_is_one_line(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    export_gallery(some_gallery(tmp_path / "g"), tmp_path / "good.parquet")
    good = parquet.read_table(tmp_path / "good.parquet")
    raw = (tmp_path / "good.parquet").read_bytes()
    bad = tmp_path / "bad.parquet"

    def says(message: str) -> None:
        assert message in refused(InputError, lambda: import_gallery([bad], tmp_path / "new"))
        assert not (tmp_path / "new").exists()

    def column(name: str, values: Any, kind: Any) -> Any:
        return good.set_column(good.schema.get_field_index(name), name, pa.array(values, kind))

    ids = good["id"].to_pylist()
    for table, message in (
        (good.replace_schema_metadata(None), "names no bundle"),
        (good.replace_schema_metadata({"duch": "{}"}), "does not name the format"),
        (good.drop_columns(["uri"]), "has the columns id, modality, text"),
        (good.append_column("extra", good["id"]), "extra; wanted"),
        (column("size", ids, pa.string()), "has the column size as string; wanted int64"),
        (column("code", [b"x" * 9] * len(ids), pa.binary(9)), "as fixed_size_binary[9]; wanted fixed_size_binary[8]"),
        (column("code", [None, *[b"x" * 8] * (len(ids) - 1)], pa.binary(8)), "row 0 of"),
        (column("id", [*ids[:-1], None], pa.string()), f"row {len(ids) - 1} of"),
        (column("id", [*ids[:-1], ids[0]], pa.string()), f"tile {ids[0]!r} is given twice"),
        (column("attributes", ["[]"] * len(ids), pa.string()), "wanted a JSON object"),
    ):
        parquet.write_table(table, bad)
        says(message)
    for content in (b"", b"PAR1", raw[: len(raw) // 2], raw[:-200] + raw[-100:], b"x" * 5000):
        bad.write_bytes(content)
        says("cannot be read as Parquet")
    bad.unlink()
    says("does not exist")
    damaged = bytearray(raw)
    damaged[100:400] = bytes(300)
    bad.write_bytes(damaged)
    says("bad.parquet")
    parquet.write_table(good.drop_columns(["seq"]), bad)
    import_gallery([bad], tmp_path / "new")
    assert contents(tmp_path / "new") == contents(tmp_path / "g")


def test_a_parquet_file_that_unpacks_to_too_much_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("duch.exchange_parquet._SMALL", 1 << 20)
    export_gallery(some_gallery(tmp_path / "g"), tmp_path / "bomb.parquet")
    good = parquet.read_table(tmp_path / "bomb.parquet")
    n, long, place = 4096, "x" * (1 << 20), good.schema.get_field_index("text")
    many = good.take([0] * n)
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), [long])  # 4 GB from a megabyte
    for table, compression, message in (
        (good.set_column(place, "text", pa.array([long] * len(good))), "zstd", "bytes of the column text to"),
        (many.set_column(place, "text", shared), "none", "has 4,2"),
    ):
        with parquet.ParquetWriter(
            tmp_path / "bomb.parquet",
            table.schema,
            compression=compression,
            use_dictionary=["text"] if compression == "none" else False,
            store_schema=False,
        ) as out:
            out.add_key_value_metadata(good.schema.metadata)
            out.write_table(table)
        assert message in refused(InputError, lambda: import_gallery([tmp_path / "bomb.parquet"], tmp_path / "new"))
        assert not (tmp_path / "new").exists()


def test_parquet_without_pyarrow_is_one_line(tmp_path: Path) -> None:
    some_gallery(tmp_path / "g", 3)
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from duch.cli import main\n"
        "main(['gallery', 'export', sys.argv[1], sys.argv[2]])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "g"), str(tmp_path / "out.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "duch: a Parquet file needs the package pyarrow, which is not installed; run: pip install 'duch[parquet]'"
    ]


SCRIPT = """
import resource, sys
from duch.errors import GalleryError
from duch.gallery_export import export_gallery
from duch.gallery_import import import_gallery
what, limit, source, out = sys.argv[1:]
if what == "export" and out.endswith("parquet"):
    import pyarrow.parquet
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    export_gallery(source, out) if what == "export" else import_gallery([source], out)
except GalleryError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("what", ["export folder", "export parquet", "import"])
def test_a_full_disk_is_one_line_and_makes_nothing(tmp_path: Path, what: str) -> None:
    source = some_gallery(tmp_path / "a", 400)
    verb, _, form = what.partition(" ")
    if verb == "import":
        export_gallery(source, tmp_path / "export")
        source, out = tmp_path / "export", tmp_path / "out"
    else:
        out = place(tmp_path, form, "out")
    before = sorted(os.listdir(tmp_path))
    command = [sys.executable, "-c", SCRIPT, verb, "3000", str(source), str(out)]
    (message,) = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert message.startswith("GalleryError ")
    assert "nothing was made" in message
    assert sorted(os.listdir(tmp_path)) == before
