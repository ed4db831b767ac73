"""A reader written from GALLERY.md alone: struct, sqlite3, zlib and mmap, and nothing of duch or NumPy.

    python -I bare_gallery.py GALLERY < QUERIES

Opens the gallery by the steps of "Reading", verifies every checksum, reads the tables against the codes, and answers
QUERIES, a JSON list of objects with `code` (hex) and `k`, and if wanted `modality`, `bbox`, `since`, `until` and
`where`, a list [attribute, least, most] of numbers. Prints what it found as JSON, or one line and exit code 1.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import sqlite3
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Never

HEADER = struct.Struct("<8sII32sQ8s")
GROUP = 4096
COLUMNS = {"seq": "q", "west": "d", "south": "d", "east": "d", "north": "d", "time_us": "q", "modality": "B"}
ROW = struct.Struct("<qddddqB")
NO_TIME = -(2**63)
NAN = bytes.fromhex("7ff8000000000000")[::-1]
MODALITIES = ("image", "text")
TILE = (
    "seq, id, modality, uri, text, size, mtime_ns, west, south, east, north, time_us, attributes, code_crc, deleted"
    ", crc"
)
META = {
    "format_version", "generation", "committed", "next_seq", "live_images", "live_texts", "fingerprint", "n_bits",
    "root", "bundle_hint",
}  # fmt: skip


def fail(reason: str) -> Never:
    sys.exit(reason)


def demand(fact: bool, reason: str) -> None:
    if not fact:
        fail(reason)


class Values(NamedTuple):
    """What the columns file holds of a row."""

    seq: int
    west: float
    south: float
    east: float
    north: float
    time_us: int
    modality: int


class Snapshot:
    """Steps 1 to 3 of "Reading"."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.catalog = open_catalog(folder)
        while not self._open_generation():
            pass

    def _open_generation(self) -> bool:
        self.meta, self.tombstones = self._read_meta()
        generation = self.meta["generation"]
        try:
            self.codes_descriptor = os.open(self.folder / f"codes-{generation}.bin", os.O_RDONLY)
            fcntl.flock(self.codes_descriptor, fcntl.LOCK_SH)
            columns_descriptor = os.open(self.folder / f"columns-{generation}.bin", os.O_RDONLY)
        except FileNotFoundError as error:
            demand(self._read_meta()[0]["generation"] != generation, f"{Path(error.filename).name} is missing")
            return False
        self.codes = mmap.mmap(self.codes_descriptor, 0, access=mmap.ACCESS_READ)
        self.columns = mmap.mmap(columns_descriptor, 0, access=mmap.ACCESS_READ)
        return bool(self._read_meta()[0]["generation"] == generation)

    def _read_meta(self) -> tuple[dict[str, Any], set[int]]:
        self.catalog.execute("BEGIN")
        (version,) = self.catalog.execute("SELECT value FROM meta WHERE key = 'format_version'").fetchone()
        demand(version == 2, f"format version {version}")
        meta = {}
        for key, value, crc in self.catalog.execute("SELECT key, value, crc FROM meta"):
            demand(crc_of((key, value)) == crc, f"checksum of meta {key}")
            meta[key] = value
        demand(set(meta) == META, f"keys of meta {sorted(meta)}")
        tombstones = self.catalog.execute(
            "SELECT seq FROM tiles WHERE deleted >= ? AND deleted > 0", (meta["generation"],)
        )
        found = {seq for (seq,) in tombstones}
        self.catalog.execute("COMMIT")
        return meta, found

    def check_headers(self) -> None:
        fingerprint, generation = bytes.fromhex(self.meta["fingerprint"]), self.meta["generation"]
        groups = math.ceil(self.committed / GROUP)
        for magic, file, number, least in (
            (b"DUCHCODE", self.codes, self.meta["n_bits"], self.committed * self.n_bytes),
            (b"DUCHCOLS", self.columns, GROUP, groups * GROUP * ROW.size),
        ):
            wanted = (magic, 2, number, fingerprint, generation, bytes(8))
            demand(HEADER.unpack_from(file) == wanted, f"header {magic!r}")
            demand(len(file) >= 64 + least, f"length {magic!r}")

    @property
    def committed(self) -> int:
        return int(self.meta["committed"])

    @property
    def n_bytes(self) -> int:
        return int(self.meta["n_bits"]) // 8

    def code(self, row: int) -> bytes:
        return self.codes[64 + row * self.n_bytes :][: self.n_bytes]

    def values(self, row: int) -> Values:
        group, place = divmod(row, GROUP)
        offset, values = 64 + group * GROUP * ROW.size, []
        for kind in COLUMNS.values():
            size = struct.calcsize(kind)
            values += struct.unpack_from("<" + kind, self.columns, offset + place * size)
            offset += GROUP * size
        return Values(*values)

    def tile(self, seq: int) -> dict[str, Any]:
        found = self.catalog.execute(f"SELECT {TILE} FROM tiles WHERE seq = ?", (seq,)).fetchall()
        demand(len(found) == 1, f"{len(found)} tiles with seq {seq}")
        demand(crc_of(found[0][:-1]) == found[0][-1], f"checksum of the tile with seq {seq}")
        return dict(zip(TILE.split(", "), found[0], strict=True))

    def live_rows(self) -> Iterator[int]:
        return (row for row in range(self.committed) if self.values(row).seq not in self.tombstones)


def open_catalog(folder: Path) -> sqlite3.Connection:
    place, log = folder / "catalog.sqlite", folder / "catalog.sqlite-wal"
    read_only_media = not os.access(folder, os.W_OK) and not (log.exists() and log.stat().st_size)
    query = "?immutable=1" if read_only_media else "?mode=ro"
    return sqlite3.connect(place.resolve().as_uri() + query, uri=True, isolation_level=None)


def crc_of(values: tuple[Any, ...]) -> int:
    return zlib.crc32(b"".join(map(encoded, values)))


def encoded(value: float | str | None) -> bytes:
    match value:
        case None:
            return b"\x00"
        case int():
            return b"\x01" + struct.pack("<q", value)
        case float():
            return b"\x02" + struct.pack("<d", value)
        case str():
            text = value.encode()
            return b"\x03" + struct.pack("<I", len(text)) + text
    fail(f"a value of an unknown type: {value!r}")


def verify_rows(gallery: Snapshot) -> None:
    """Every row's tile, code and values agree; rows rise with seq; the counts are right."""
    last, live = -1, [0, 0]
    for row in range(gallery.committed):
        values = gallery.values(row)
        demand(last < values.seq < gallery.meta["next_seq"], f"seq of row {row}")
        last = values.seq
        tile = gallery.tile(values.seq)
        demand(zlib.crc32(gallery.code(row)) == tile["code_crc"], f"code of row {row}")
        time_us = NO_TIME if tile["time_us"] is None else tile["time_us"]
        box = [tile[side] for side in ("west", "south", "east", "north")]
        demand(box.count(None) in (0, 4), f"half a footprint of row {row}")
        wanted = struct.pack("<q", tile["seq"])
        wanted += b"".join(NAN if side is None else struct.pack("<d", side) for side in box)
        wanted += struct.pack("<qB", time_us, MODALITIES.index(tile["modality"]))
        demand(row_bytes(gallery, row) == wanted, f"columns of row {row}")
        live[values.modality] += tile["deleted"] == 0
        demand((tile["deleted"] >= gallery.meta["generation"]) == (tile["seq"] in gallery.tombstones), "tombstones")
    demand(live == [gallery.meta["live_images"], gallery.meta["live_texts"]], "live tiles")


def row_bytes(gallery: Snapshot, row: int) -> bytes:
    return ROW.pack(*gallery.values(row))


def verify_batches(gallery: Snapshot) -> None:
    row = 0
    for first, n, codes_crc, columns_crc in gallery.catalog.execute(
        "SELECT first_row, n_rows, codes_crc, columns_crc FROM batches ORDER BY first_row"
    ):
        demand(first == row and n > 0, f"batches at row {row}")
        row += n
        codes = gallery.codes[64 + first * gallery.n_bytes : 64 + row * gallery.n_bytes]
        demand(zlib.crc32(codes) == codes_crc, f"codes of the batch at row {first}")
        columns = b"".join(row_bytes(gallery, one) for one in range(first, row))
        demand(zlib.crc32(columns) == columns_crc, f"columns of the batch at row {first}")
    demand(row == gallery.committed, "batches end early or late")


def read_tables(gallery: Snapshot) -> dict[str, Any] | None:
    """What the tables file says, once every byte of it has been compared with the codes."""
    generation, n_bits = gallery.meta["generation"], gallery.meta["n_bits"]
    path = gallery.folder / f"tables-{generation}.bin"
    if not path.exists():
        return None
    data = path.read_bytes()
    fingerprint = bytes.fromhex(gallery.meta["fingerprint"])
    demand(HEADER.unpack_from(data) == (b"DUCHTABL", 2, n_bits, fingerprint, generation, bytes(8)), "header of tables")
    demand(struct.unpack_from("<I", data, 636)[0] == zlib.crc32(data[:636]), "checksum of the tables' header")
    n, codes_crc, n_tables = struct.unpack_from("<QII", data, 64)
    demand(n <= gallery.committed and 1 <= n_tables <= 64, "tables of more rows than there are")
    demand(zlib.crc32(gallery.codes[64 : 64 + n * gallery.n_bytes]) == codes_crc, "tables of other codes")
    demand(not any(data[80 + 8 * n_tables : 636]), "no zeros at the end of the tables' header")

    n_words = math.ceil(n_bits / 64)
    codes = [gallery.code(row).ljust(8 * n_words, b"\0") for row in range(n)]
    place, first_bit, widths = 640, 0, []
    for t in range(n_tables):
        width, table_crc = struct.unpack_from("<II", data, 80 + 8 * t)
        demand(1 <= width <= 28, f"key of table {t}")
        keys = [int.from_bytes(code, "little") >> first_bit & (1 << width) - 1 for code in codes]
        rows = sorted(range(n), key=lambda row: (keys[row], row))
        offsets = [0] * ((1 << width) + 1)
        for key in keys:
            offsets[key + 1] += 1
        for key in range(1 << width):
            offsets[key + 1] += offsets[key]
        table = padded(struct.pack(f"<{len(offsets)}I", *offsets))
        table += padded(struct.pack(f"<{n}I", *rows)) + padded(b"".join(codes[row] for row in rows))
        demand(data[place : place + len(table)] == table, f"bytes of table {t}")
        demand(zlib.crc32(table) == table_crc, f"checksum of table {t}")
        place, first_bit = place + len(table), first_bit + width
        widths.append(width)
    demand(first_bit == n_bits, "keys that do not cover the code")
    demand(place == len(data), "bytes behind the tables")
    return {"rows": n, "widths": widths}


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 64)


def search(gallery: Snapshot, query: dict[str, Any]) -> list[tuple[int, int, str]]:
    """(distance, seq, id) of the k nearest live tiles that pass, nearest first, by brute force."""
    wanted, modality = int(query["code"], 16), MODALITIES.index(query.get("modality", "image"))
    found = []
    for row in gallery.live_rows():
        values = gallery.values(row)
        if values.modality != modality or not in_box(values, query.get("bbox")) or not in_span(values, query):
            continue
        if "where" in query and not attribute_between(gallery.tile(values.seq), *query["where"]):
            continue
        found.append(((int.from_bytes(gallery.code(row)) ^ wanted).bit_count(), values.seq))
    return [(distance, seq, gallery.tile(seq)["id"]) for distance, seq in sorted(found)[: query["k"]]]


def in_box(values: Values, box: list[float] | None) -> bool:
    if box is None:
        return True
    west, south, east, north = box
    if math.isnan(values.west) or values.south > north or values.north < south:
        return False
    return (values.west <= east) + (values.east >= west) + (values.west > values.east) + (west > east) >= 2


def in_span(values: Values, query: dict[str, Any]) -> bool:
    since, until = query.get("since"), query.get("until")
    if since is None and until is None:
        return True
    if values.time_us == NO_TIME:
        return False
    return (since is None or since <= values.time_us) and (until is None or values.time_us < until)


def attribute_between(tile: dict[str, Any], name: str, least: float, most: float) -> bool:
    value = json.loads(tile["attributes"] or "{}").get(name)
    return type(value) in (int, float) and least <= value <= most


def main(folder: Path, queries: list[dict[str, Any]]) -> dict[str, Any]:
    gallery = Snapshot(folder)
    gallery.check_headers()
    verify_rows(gallery)
    verify_batches(gallery)
    return {
        "meta": gallery.meta,
        "live": [gallery.tile(gallery.values(row).seq) for row in gallery.live_rows()],
        "codes": [gallery.code(row).hex() for row in gallery.live_rows()],
        "tables": read_tables(gallery),
        "hits": [search(gallery, query) for query in queries],
        "packages": sorted({name.partition(".")[0] for name in sys.modules}),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), json.load(sys.stdin))))
