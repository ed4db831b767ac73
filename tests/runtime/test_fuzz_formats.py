"""Every file that duch reads, mutated: out comes one line of duch's own or an answer, and never anything else."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duch.bundle import read_bundle
from duch.errors import DuchError
from duch.gallery import Gallery
from duch.gallery_export import export_gallery
from duch.gallery_import import import_gallery
from duch.preprocess import Tokenizer
from duch.repair import repair
from duch.tables import Tables
from duch.tile import COLUMNS, row_crc
from duch.verify import verify

from .fault_damage import closed, crashed
from .faulty_gallery import put, view, writer

TINY = Path(__file__).parents[1] / "tiny_bundle"
quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
long = settings(quick, max_examples=400)

# Where (a share of the length), what is written there, and how many bytes it replaces.
Mutation = list[tuple[float, bytes, int]]
mutations = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.binary(max_size=6) | st.sampled_from([b"\0" * 512, b"\xff" * 8, b"\n", b'"', b",", b"9" * 30, b"[" * 5000]),
        st.sampled_from([0, 1, 1, 4, 8, 512, 10**6]),
    ),
    min_size=1,
    max_size=4,
)


def mutate(data: bytes, mutation: Mutation) -> bytes:
    for share, written, replaced in mutation:
        at = int(share * len(data))
        data = data[:at] + written + data[at + replaced :]
    return data


def only_errors_of_duch(call: Callable[[], object]) -> bool:
    """Whether it went well; any error but one line of duch's own is the test's."""
    message = None
    try:
        call()
    except DuchError as error:
        message = str(error)
    assert message is None or (message and "\n" not in message)
    return message is None


def use(folder: Path) -> None:
    """All that reads a gallery, and a writer."""
    steps = (
        lambda: view(folder),
        lambda: verify(folder),
        lambda: put_some(folder),
        lambda: repair(folder),
        lambda: view(folder),
    )
    for step in steps:
        only_errors_of_duch(step)


def put_some(folder: Path) -> None:
    with writer(folder, create=False) as out:
        put(out, {"i1": 8, "later": 1})
        out.compact()


# --- galleries ---


@pytest.fixture(scope="module")
def galleries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("galleries")
    closed(base / "closed")
    with Gallery.open(base / "closed") as gallery:
        Tables.build(gallery.codes, base / "closed" / "tables-1.bin", fingerprint=gallery.fingerprint, generation=1)
    crashed(base / "crashed")
    return {"closed": base / "closed", "crashed": base / "crashed"}


GALLERY_FILES = [
    ("closed", "catalog.sqlite"),
    ("closed", "codes-1.bin"),
    ("closed", "columns-1.bin"),
    ("closed", "tables-1.bin"),
    ("closed", "writer.lock"),
    ("crashed", "catalog.sqlite-wal"),
    ("crashed", "catalog.sqlite-shm"),
]


def fuzz_gallery_file(galleries: dict[str, Path], tmp: Path, which: str, file: str, mutation: Mutation) -> None:
    folder = shutil.copytree(galleries[which], tmp / "g")
    (folder / file).write_bytes(mutate((folder / file).read_bytes(), mutation))
    use(folder)
    shutil.rmtree(folder)


@quick
@given(place=st.sampled_from(GALLERY_FILES), mutation=mutations)
def test_a_mutated_file_of_a_gallery(
    galleries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, place: tuple[str, str], mutation: Mutation
) -> None:
    fuzz_gallery_file(galleries, tmp_path_factory.mktemp("m"), *place, mutation)


@pytest.mark.slow
@pytest.mark.parametrize(("which", "file"), GALLERY_FILES)
@long
@given(mutation=mutations)
def test_many_mutations_of_each_file_of_a_gallery(
    galleries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, which: str, file: str, mutation: Mutation
) -> None:
    fuzz_gallery_file(galleries, tmp_path_factory.mktemp("m"), which, file, mutation)


# Values whose checksum is right, as another program may have written them.
odd_values = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-2, 300)
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.binary(max_size=12)
    | st.sampled_from(["../x", "[1]", "{", '{"a":' * 3000, "image", "text", "00" * 32, "\0"])
)
META = ["format_version", "generation", "committed", "next_seq", "live_images", "live_texts", "fingerprint", "n_bits"]


def sign_meta(folder: Path, key: str, value: Any) -> None:
    with sqlite3.connect(folder / "catalog.sqlite") as connection:
        crc = row_crc((key, value))
        connection.execute("UPDATE meta SET value = ?, crc = ? WHERE key = ?", (value, crc, key))
    connection.close()


def sign_tile(folder: Path, column: str, value: Any) -> None:
    with sqlite3.connect(folder / "catalog.sqlite") as connection:
        connection.execute(f"UPDATE OR IGNORE tiles SET {column} = ? WHERE seq = 5", (value,))
        for *values, _ in connection.execute(f"SELECT {COLUMNS}, crc FROM tiles WHERE deleted = 0").fetchall():
            connection.execute("UPDATE tiles SET crc = ? WHERE seq = ?", (row_crc(values), values[0]))
    connection.close()


def fuzz_signed(galleries: dict[str, Path], tmp: Path, sign: Callable[..., None], name: str, value: Any) -> None:
    folder = shutil.copytree(galleries["closed"], tmp / "g")
    try:
        sign(folder, name, value)
    except sqlite3.Error:
        return  # SQLite itself refuses it
    use_signed(folder)
    shutil.rmtree(folder)


def use_signed(folder: Path) -> None:
    """As `use`, but what is found need not be what was stored."""

    def search() -> None:
        with Gallery.open(folder) as gallery:
            gallery.search(gallery.codes[:1].copy(), 300)

    for step in (search, lambda: verify(folder), lambda: put_some(folder), lambda: repair(folder), search):
        only_errors_of_duch(step)


@quick
@given(key=st.sampled_from([*META, "root", "bundle_hint"]), value=odd_values)
def test_an_odd_value_of_table_meta_with_a_right_checksum(
    galleries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    fuzz_signed(galleries, tmp_path_factory.mktemp("m"), sign_meta, key, value)


@quick
@given(column=st.sampled_from(COLUMNS.split(", ")[1:]), value=odd_values)
def test_an_odd_value_of_table_tiles_with_a_right_checksum(
    galleries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, column: str, value: Any
) -> None:
    fuzz_signed(galleries, tmp_path_factory.mktemp("m"), sign_tile, column, value)


@pytest.mark.slow
@long
@given(
    place=st.tuples(st.just(sign_meta), st.sampled_from([*META, "root", "bundle_hint"]))
    | st.tuples(st.just(sign_tile), st.sampled_from(COLUMNS.split(", ")[1:])),
    value=odd_values,
)
def test_many_odd_values_with_right_checksums(
    galleries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, place: tuple[Any, str], value: Any
) -> None:
    fuzz_signed(galleries, tmp_path_factory.mktemp("m"), *place, value)


# --- bundles ---


BUNDLE_FILES = ["manifest.json", "golden.npz", "tokenizer.json"]


def fuzz_bundle_file(tmp: Path, file: str, mutation: Mutation) -> None:
    """Past its checksums: the manifest is signed again, and other files are not compared with it."""
    folder = tmp / "bundle"
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    data = (folder / file).read_bytes()
    if file == "manifest.json":
        body = mutate(data[: data.rindex(b',\n  "manifest_sha256"')], mutation)
        data = body + f',\n  "manifest_sha256": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()
    else:
        data = mutate(data, mutation)
    (folder / file).write_bytes(data)
    only_errors_of_duch(lambda: read_bundle(folder))

    def read_unchecked() -> None:
        bundle = read_bundle(folder, check_all=False)
        bundle.unchecked.clear()
        bundle.golden()
        Tokenizer(bundle.tokenizer_json(), bundle.text)(["two ships"])

    only_errors_of_duch(read_unchecked)
    shutil.rmtree(folder)


@quick
@given(file=st.sampled_from(BUNDLE_FILES), mutation=mutations)
def test_a_mutated_file_of_a_bundle(tmp_path_factory: pytest.TempPathFactory, file: str, mutation: Mutation) -> None:
    fuzz_bundle_file(tmp_path_factory.mktemp("m"), file, mutation)


@pytest.mark.slow
@pytest.mark.parametrize("file", BUNDLE_FILES)
@long
@given(mutation=mutations)
def test_many_mutations_of_each_file_of_a_bundle(
    tmp_path_factory: pytest.TempPathFactory, file: str, mutation: Mutation
) -> None:
    fuzz_bundle_file(tmp_path_factory.mktemp("m"), file, mutation)


# --- exports ---


@pytest.fixture(scope="module")
def exported(galleries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("exported")
    export_gallery(shutil.copytree(galleries["closed"], base / "g"), base / "folder")
    return base


def fuzz_import(source: Path, file: str, tmp: Path, mutation: Mutation) -> None:
    copy = tmp / source.name
    if source.is_dir():
        shutil.copytree(source, copy)
    else:
        shutil.copy(source, copy)
    mutated = copy / file if file else copy
    mutated.write_bytes(mutate(mutated.read_bytes(), mutation))
    if only_errors_of_duch(lambda: import_gallery([copy], tmp / "new")):
        assert not verify(tmp / "new").problems
    else:
        assert sorted(path.name for path in tmp.iterdir()) == [copy.name], "a refused import left something"
    shutil.rmtree(tmp)


@quick
@given(file=st.sampled_from(["tiles.csv", "codes.npy", "gallery.json"]), mutation=mutations)
def test_a_mutated_export(
    exported: Path, tmp_path_factory: pytest.TempPathFactory, file: str, mutation: Mutation
) -> None:
    fuzz_import(exported / "folder", file, tmp_path_factory.mktemp("m"), mutation)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["tiles.csv", "codes.npy", "gallery.json"])
@long
@given(mutation=mutations)
def test_many_mutations_of_each_file_of_an_export(
    exported: Path, tmp_path_factory: pytest.TempPathFactory, file: str, mutation: Mutation
) -> None:
    fuzz_import(exported / "folder", file, tmp_path_factory.mktemp("m"), mutation)


@pytest.mark.slow
@long
@given(mutation=mutations)
def test_many_mutations_of_a_parquet_file(
    exported: Path, tmp_path_factory: pytest.TempPathFactory, mutation: Mutation
) -> None:
    pytest.importorskip("pyarrow")
    source = exported / "tiles.parquet"
    if not source.exists():
        export_gallery(exported / "g", source)
    fuzz_import(source, "", tmp_path_factory.mktemp("m"), mutation)
