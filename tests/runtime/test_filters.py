"""Filters of a search: in a gallery against a naive loop, and on the command line."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from duch.bundle import read_bundle
from duch.catalog import Catalog
from duch.cli import main
from duch.errors import FilterError, GalleryCorruptError
from duch.filters import Filters, bbox_of, time_us
from duch.gallery import Gallery, Tile
from duch.where import Comparison, attribute_index
from duch.where_parser import parse

from .resigned import TINY

FINGERPRINT = "ab" * 32
JUNE = time_us("2024-06-01")
EVERYTHING = 1_000


def world() -> list[Tile]:
    """60 tiles on a grid, a tile a day, every tenth a sentence; some without footprint, time or attributes."""
    tiles = []
    for i in range(60):
        west, south = -180.0 + 30 * (i % 12), -40.0 + 20 * (i // 12)
        tiles.append(
            Tile(
                id=f"{i:02d}.png" if i != 7 else "it's ☃.png",
                modality="text" if i % 10 == 3 else "image",
                footprint=None if i % 13 == 0 else (west + 20, south, -175.0 if west == 150 else west + 31, south + 20),
                time_us=None if i % 11 == 0 else JUNE + i * 86_400_000_000,
                attributes={}
                if i % 7 == 0
                else {"cloud": i / 2 if i % 2 else i, "site": f"s{i % 4}", "day": i % 5 == 0},
            )
        )
    return tiles


def codes_of(n: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (n, 8), dtype=np.uint8)


@pytest.fixture(scope="module", params=["plain", "indexed"])
def gallery(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """Of the world, without its tiles 20 and 33, and with changes that the reader does not see."""
    folder = tmp_path_factory.mktemp(request.param) / "g"
    tiles, codes = world(), codes_of(60)
    with Gallery.writer(folder, fingerprint=FINGERPRINT, n_bits=64, create=True) as out:
        out.append(codes[:45], tiles[:45])
        out.append(codes[45:], tiles[45:])
        out.remove(["20.png", "33.png"])
        if request.param == "indexed":
            connection = sqlite3.connect(folder / "catalog.sqlite")
            for name in ("cloud", "site"):
                connection.execute(attribute_index(name)[1])
            connection.commit()
            connection.close()
        opened = Gallery.open(folder)
        out.remove(["21.png"])
        out.append(codes[:2], [tiles[22], Tile(id="new", modality="image", attributes={"cloud": 1})])
    return opened


def meets(footprint: Any, box: Any) -> bool:
    def around(west: float, east: float) -> list[tuple[float, float]]:
        return [(west, east)] if west <= east else [(west, 1e9), (-1e9, east)]

    return footprint is not None and (
        footprint[1] <= box[3]
        and footprint[3] >= box[1]
        and any(a <= d and c <= b for a, b in around(footprint[0], footprint[2]) for c, d in around(box[0], box[2]))
    )


# Expressions with the same in Python, which sees a missing attribute as None.
EXPRESSIONS = {
    "cloud < 10": lambda t: t.attributes.get("cloud") is not None and t.attributes["cloud"] < 10,
    "cloud >= 10 AND site IN ('s1', 's2')": lambda t: (
        t.attributes.get("cloud", -1) >= 10 and t.attributes["site"] in ("s1", "s2")
    ),
    "day = TRUE OR cloud IS NULL": lambda t: t.attributes.get("day", True),
    "NOT site = 's1'": lambda t: t.attributes.get("site", "s1") != "s1",
    "site = 's3'": lambda t: t.attributes.get("site") == "s3",
    "id IN ('05.png', '20.png', '40.png')": lambda t: t.id in ("05.png", "40.png"),
    "modality = 'text'": lambda t: t.modality == "text",
    "cloud = 'x'": lambda t: False,
}
BOXES = st.sampled_from(
    [(-180, -90, 180, 90), (-10, 0, 30, 30), (170, -90, -170, 90), (100.5, -10.5, 101, -10), (0, 89, 1, 90)]
)
TIMES = st.sampled_from([None, *(JUNE + day * 86_400_000_000 for day in (-5, 0, 10, 10.5, 40, 59, 99))])


@given(
    bbox=st.one_of(st.none(), BOXES),
    times=st.tuples(TIMES, TIMES).map(lambda pair: sorted(pair) if None not in pair else list(pair)),
    where=st.one_of(st.none(), st.sampled_from(sorted(EXPRESSIONS))),
    ids=st.one_of(st.none(), st.lists(st.sampled_from(["02.png", "20.png", "21.png", "it's ☃.png", "new", "x"]))),
    modality=st.sampled_from([None, "image", "text"]),
    max_distance=st.sampled_from([None, 0, 25, 31, 64]),
    k=st.sampled_from([1, 5, EVERYTHING]),
)
@settings(max_examples=100, deadline=None)
def test_a_search_finds_the_nearest_of_what_passes(
    gallery: Gallery, bbox: Any, times: Any, where: Any, ids: Any, modality: Any, max_distance: Any, k: int
) -> None:
    since, until = (None if time is None else int(time) for time in times)
    if since is not None and since == until:
        until = None
    filters = Filters(
        bbox=bbox,
        since_us=since,
        until_us=until,
        where=None if where is None else parse(where),
        ids=None if ids is None else tuple(ids),
        max_distance=max_distance,
    )
    passing = [
        seq
        for seq, tile in enumerate(world())
        if seq not in (20, 33)
        and (modality is None or tile.modality == modality)
        and (bbox is None or meets(tile.footprint, bbox))
        and (since is None or (tile.time_us is not None and tile.time_us >= since))
        and (until is None or (tile.time_us is not None and tile.time_us < until))
        and (where is None or EXPRESSIONS[where](tile))
        and (ids is None or tile.id in ids)
    ]
    queries = np.random.default_rng(k).integers(0, 256, (2, 8), dtype=np.uint8)
    assert gallery.count(modality, filters) == len(passing)
    for query, hits in zip(queries, gallery.search(queries, k, modality=modality, filters=filters), strict=True):
        nearest = sorted((int(np.bitwise_count(codes_of(60)[seq] ^ query).sum()), seq) for seq in passing)[:k]
        expected = [pair for pair in nearest if max_distance is None or pair[0] <= max_distance]
        assert [(hit.distance, hit.seq) for hit in hits] == expected
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def test_filters_that_differ_in_type_alone_are_not_confused(tmp_path: Path) -> None:
    with Gallery.writer(tmp_path / "g", fingerprint=FINGERPRINT, n_bits=64, create=True) as out:
        out.append(codes_of(1), [Tile(id="a", modality="image", attributes={"x": 1})])
    with Gallery.open(tmp_path / "g") as opened:
        assert [opened.count(None, Filters(where=parse(text))) for text in ("x = 1", "x = TRUE", "x = 1.0")] == [
            1,
            0,
            1,
        ]


def test_a_tile_that_is_removed_between_two_queries_is_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gallery.writer(tmp_path / "g", fingerprint=FINGERPRINT, n_bits=64, create=True) as out:
        out.append(codes_of(60), [Tile(id=f"{i}", modality="image") for i in range(60)])
        ask = Catalog.seqs

        def seqs(catalog: Catalog, query: str, values: Any) -> Iterator[int]:
            yield from ask(catalog, query, values)
            out.remove(["7"])

        with Gallery.open(tmp_path / "g") as opened:
            monkeypatch.setattr(Catalog, "seqs", seqs)
            hits = opened.search(codes_of(1), 9, filters=Filters(ids=("7", "8")))[0]
            assert sorted(hit.id for hit in hits) == ["7", "8"]


def test_attributes_that_are_no_json_are_damage(tmp_path: Path) -> None:
    with Gallery.writer(tmp_path / "g", fingerprint=FINGERPRINT, n_bits=64, create=True) as out:
        out.append(codes_of(1), [Tile(id="a", modality="image", attributes={"x": 1})])
    connection = sqlite3.connect(tmp_path / "g" / "catalog.sqlite")
    connection.execute("UPDATE tiles SET attributes = '{\"x\":'")
    connection.commit()
    connection.close()
    with Gallery.open(tmp_path / "g") as opened, pytest.raises(GalleryCorruptError, match="damaged"):
        opened.count(None, Filters(where=parse("x = 1")))


# --- what is refused, and how times and boxes are written ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"bbox": (0, 5, 1, 4)}, "south <= north"),
        ({"max_distance": -1}, "at least 0 bits"),
        ({"ids": ("a", "\udcff")}, "no UTF-8"),
        ({"ids": ("a\0b",)}, "holds NUL"),
        ({"where": Comparison('a"b', "=", 1)}, "cannot be asked for"),
        ({"since_us": 7, "until_us": 3}, "since before until"),
    ],
)
def test_filters_that_cannot_be_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(FilterError, match=said):
        Filters(**arguments)


ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(timezones=ZONES))
@settings(max_examples=50, deadline=None)
def test_a_time_is_its_microseconds_in_utc(time: datetime) -> None:
    exact = time.astimezone(UTC) if datetime(2, 1, 1, tzinfo=UTC) < time < datetime(9998, 1, 1, tzinfo=UTC) else None
    if exact is not None:
        delta = exact.replace(tzinfo=None) - datetime(1970, 1, 1)
        assert time_us(time.isoformat()) == delta.days * 86_400_000_000 + delta.seconds * 1_000_000 + delta.microseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", 0),
        ("1970-01-02T00:00:00Z", 86_400_000_000),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01T00:00:01.5", 1_500_000),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("0001-01-01T00:00:00+14:00", -62135596800000000 - 14 * 3_600_000_000),
        ("9999-12-31T23:59:59-12:00", 253402300799000000 + 12 * 3_600_000_000),
    ],
)
def test_times_have_a_zone_or_are_utc(text: str, expected: int) -> None:
    assert time_us(text) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01", "2024-06-01T25:00", "1717200000", "20240601T"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(FilterError, match="wanted ISO 8601"):
        time_us(text)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1;2;3;4"])
def test_what_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(FilterError, match="wanted west,south,east,north"):
        bbox_of(text)


# --- the command line ---


def duch(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of the world with the tiny bundle's codes."""
    folder = tmp_path_factory.mktemp("cli") / "g"
    bundle = read_bundle(TINY)
    codes = np.random.default_rng(0).integers(0, 256, (60, bundle.manifest.n_bits // 8), dtype=np.uint8)
    options = {"fingerprint": bundle.fingerprint, "n_bits": bundle.manifest.n_bits, "bundle_hint": TINY}
    with Gallery.writer(folder, create=True, **options) as out:
        out.append(codes, world())
    return folder


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        (["--bbox", "-10,-40,30,-30"], lambda t: meets(t.footprint, (-10, -40, 30, -30))),
        (["--bbox", "175,-90,-175,90"], lambda t: meets(t.footprint, (175, -90, -175, 90))),
        (["--since", "2024-07-20"], lambda t: t.time_us is not None and t.time_us >= time_us("2024-07-20")),
        (["--until", "2024-06-05T00:00:00Z"], lambda t: t.time_us is not None and t.time_us < time_us("2024-06-05")),
        (["--where", "cloud < 10"], EXPRESSIONS["cloud < 10"]),
        (["--id", "it's ☃.png", "--id", "05.png"], lambda t: t.id in ("it's ☃.png", "05.png")),
        (["--id", "05.png", "--where", "cloud = 2.5"], lambda t: t.id == "05.png"),
        (["--in", "text", "--where", "cloud < 10"], lambda t: t.id in ("03.png", "13.png")),
    ],
)
def test_search_takes_the_filters(folder: Path, options: list[str], passes: Any) -> None:
    everywhere = [] if "--in" in options else ["--in", "image"]
    result = duch("search", folder, "a river", "-k", "99", "--json", *everywhere, *options)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    modality = "text" if "text" in options else "image"
    expected = {tile.id for tile in world() if tile.modality == modality and passes(tile)}
    assert expected
    assert {hit["id"] for hit in found["hits"]} == expected
    assert (found["n_selected"], found["n_tiles"]) == (len(expected), 60)


def test_ids_from_a_stdin_that_the_shell_closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duch.options.sys", SimpleNamespace(stdin=None))
    result = duch("search", folder, "a river", "--ids", "-")
    assert (result.exit_code, result.stderr) == (1, "duch: stdin is closed; wanted ids, one a line\n")


def test_ids_come_from_a_file_or_stdin(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes("\ufeff05.png\r\n\nit's ☃.png\n05.png\nnowhere.png\n".encode())
    for source, stdin in ((tmp_path / "ids.txt", None), ("-", (tmp_path / "ids.txt").read_bytes())):
        result = duch("search", folder, "a river", "--json", "--ids", source, "--id", "06.png", stdin=stdin)
        assert {hit["id"] for hit in json.loads(result.stdout)["hits"]} == {"05.png", "06.png", "it's ☃.png"}


def test_a_distance_limits_the_hits(folder: Path) -> None:
    hits = json.loads(duch("search", folder, "a river", "-k", "99", "--json").stdout)["hits"]
    limit = hits[4]["distance"]
    result = duch("search", folder, "a river", "-k", "99", "--json", "--max-distance", str(limit))
    assert json.loads(result.stdout)["hits"] == [hit for hit in hits if hit["distance"] <= limit]


def test_filters_that_select_nothing_are_told_and_no_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none.txt").touch()
    for options in (["--where", "cloud > 1e6"], ["--ids", tmp_path / "none.txt"], ["--id", "nowhere"]):
        result = duch("search", folder, "a river", *options, "--sheet", tmp_path / "sheet.png")
        assert result.exit_code == 0
        assert "select no tile of" in result.stderr
        assert json.loads(duch("search", folder, "a river", "--json", *options).stdout)["hits"] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--bbox", "1,2,3"], "wanted west,south,east,north"),
        (["--bbox", "0,9,1,5"], "south <= north"),
        (["--since", "June"], "wanted ISO 8601"),
        (["--since", "2024-06-02", "--until", "2024-06-01"], "wanted since before until"),
        (["--where", "cloud <"], "at character 8: it ends"),
        (["--where", '"a\\b" = 1'], "cannot be asked for"),
        (["--id", "\udcff"], "no UTF-8"),
        (["--ids", "no-such-file"], "No such file"),
        (["--id", ""], "'--id' is empty"),
        (["--since", "2024-06-02", "--until", "2024-06-01"], "from 2024-06-02T00:00:00Z until 2024-06-01T00:00:00Z"),
    ],
)
def test_bad_filters_are_one_line(folder: Path, options: list[str], said: str) -> None:
    result = duch("search", folder, "a river", *options)
    assert result.exit_code == 1, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert said in result.stderr


def test_a_list_of_ids_that_is_no_text_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.bin").write_bytes(b"a\nb\n\xff\n")
    result = duch("search", folder, "a river", "--ids", tmp_path / "ids.bin")
    assert result.exit_code == 1
    assert "line 3 of" in result.stderr


def test_verify_checks_all_and_not_the_hits_alone(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    search = ("search", copy, "a river", "--bundle", TINY, "-k", "1", "--id", "05.png")
    assert duch(*search, "--verify").exit_code == 0
    with open(copy / "codes-1.bin", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    assert duch(*search).exit_code == 0
    result = duch(*search, "--verify")
    assert result.exit_code == 1
    assert "codes-1.bin" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
