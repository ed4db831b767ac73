"""GALLERY.md is enough to read a gallery: a reader written from it alone sees what duch sees, and what is damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duch.filters import Filters
from duch.gallery import Gallery
from duch.optimize import optimize
from duch.where_parser import parse

from .some_gallery import FINGERPRINT, edit, fill, flip, some_tiles, what_a_reader_sees, writer

READER = Path(__file__).with_name("bare_gallery.py")
N_BITS = 72  # no multiple of 64, so that words of the tables are filled up
N_COMPACTED = 4200  # rows in more than one group of columns
BOXES = [(-180, -90, 180, 90), (-170.5, -0.3, 20, 0.1), (170, -1, -170.25, 1), (3, 0.26, 4, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, texts, replaced and removed tiles before and after a compaction, an index, and rows behind the tables."""
    folder = tmp_path_factory.mktemp("bare") / "gallery"
    with Gallery.writer(folder, fingerprint=FINGERPRINT, n_bits=N_BITS, create=True, root=folder.parent) as out:
        fill(out, N_COMPACTED)
        out.compact()
    optimize(folder, tables=True, attributes=["cloud"])
    with Gallery.writer(folder) as out:
        fill(out, 90, prefix="later/", seed=1)
        out.append(np.zeros((1, N_BITS // 8), np.uint8), some_tiles(2)[1:])
    return folder


def run_reader(folder: Path, queries: Sequence[dict[str, Any]] = ()) -> subprocess.CompletedProcess[str]:
    # -I: neither the current folder nor PYTHONPATH can smuggle anything in
    return subprocess.run(
        [sys.executable, "-I", READER, folder], input=json.dumps(queries), capture_output=True, text=True, check=False
    )


def some_queries() -> list[tuple[dict[str, Any], Filters]]:
    codes = np.random.default_rng(5).integers(0, 256, (12, N_BITS // 8), dtype=np.uint8)
    limits: list[dict[str, Any]] = [
        {},
        {"modality": "text"},
        *({"bbox": box} for box in BOXES),
        {"since": 7, "until": 300},
        {"until": 2, "modality": "text"},
        {"where": ("cloud", 0.25, 31)},
        {"where": ("bands", 0, 1)},
        {"bbox": BOXES[1], "since": 0, "where": ("cloud", 0, 20.5)},
        {"bbox": BOXES[2], "until": 1000},
    ]
    return [
        (
            {"code": code.tobytes().hex(), "k": 30, "modality": "image", **limit},
            Filters(
                bbox=limit.get("bbox"),
                since_us=limit.get("since"),
                until_us=limit.get("until"),
                where=parse("{} BETWEEN {} AND {}".format(*limit["where"])) if "where" in limit else None,
            ),
        )
        for code, limit in zip(codes, limits, strict=True)
    ]


def test_reader_sees_what_duch_sees(folder: Path) -> None:
    queries = some_queries()
    done = run_reader(folder, [query for query, _ in queries])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    seen = what_a_reader_sees(folder)
    assert [(tile["seq"], code) for tile, code in zip(found["live"], found["codes"], strict=True)] == [
        (seq, code.hex()) for seq, (code, _, _) in sorted(seen.items())
    ]
    with Gallery.open(folder) as gallery:
        for (query, filters), hits in zip(queries, found["hits"], strict=True):
            code = np.frombuffer(bytes.fromhex(query["code"]), np.uint8)[None]
            wanted = gallery.search(code, query["k"], modality=query["modality"], filters=filters)[0]
            assert hits == [[hit.distance, hit.seq, hit.id] for hit in wanted], query
        assert found["tables"]["rows"] == gallery.rows_in_tables < len(gallery.codes)
    assert {len(hits) for hits in found["hits"]} >= {0, 30}
    assert found["meta"]["fingerprint"] == FINGERPRINT
    assert not {"duch", "numpy"}.intersection(found["packages"])


def test_reader_checks_every_byte_of_codes_columns_and_tables(folder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    for kind in ("codes", "columns", "tables"):
        copy = tmp_path / kind
        shutil.copytree(folder, copy)
        file = copy / f"{kind}-2.bin"
        for place in (50, 64 + int(random.integers(1000)), file.stat().st_size - 1):
            if kind == "columns" and place >= file.stat().st_size - 1:
                continue  # a place of no row
            flip(file, place)
            done = run_reader(copy)
            assert (done.returncode, done.stdout) == (1, ""), (kind, place)
            assert len(done.stderr.splitlines()) == 1, done.stderr
            flip(file, place)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE meta SET value = value + 1 WHERE key = 'committed'", "checksum of meta committed"),
        ("UPDATE tiles SET id = 'other' WHERE seq = 4210", "checksum of the tile with seq 4210"),
        ("UPDATE batches SET codes_crc = codes_crc + 1 WHERE first_row = 0", "codes of the batch at row 0"),
        ("DELETE FROM batches WHERE first_row > 0", "batches end early or late"),
        ("DELETE FROM tiles WHERE deleted = 2", "0 tiles with seq"),
    ],
)
def test_reader_checks_the_catalog(folder: Path, tmp_path: Path, statement: str, told: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "gallery")
    edit(copy, statement)
    done = run_reader(copy)
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr


def test_reader_ends_where_a_file_is_missing(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "gallery")
    (copy / "columns-2.bin").unlink()
    done = run_reader(copy)
    assert (done.returncode, done.stderr) == (1, "columns-2.bin is missing\n")


def test_reader_works_on_an_empty_gallery(tmp_path: Path) -> None:
    writer(tmp_path / "gallery").close()
    done = run_reader(tmp_path / "gallery", [{"code": "00", "k": 3}])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hits"] == [[]]
