"""Times, sensors and clouds of scenes: which source counts, and what is no time."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duch.errors import ConfigError, SceneError
from duch.geo.acquisition import Acquisition, acquisition_of, check_pattern, cloud_cover_of, time_us_of
from duch.geo.settings import ChipSettings
from duch.geo.stac_item import Item

PATTERN = r"^(?P<sensor>S2[AB])_(?P<tile>T\w{5})_(?P<time>\d{8}T\d{6})(?:_(?P<cloud_cover>\d+))?"
NAME = "S2A_T33UUP_20240601T102030_12.tif"


class Tags:
    """What acquisition_of asks of a dataset."""

    def __init__(self, imagery: dict[str, str] | None = None, **tags: str) -> None:
        self.imagery, self.own = imagery or {}, tags

    def tags(self, ns: str | None = None) -> dict[str, str]:
        return self.imagery if ns == "IMAGERY" else self.own


def us(*numbers: int, zone: Any = UTC) -> int:
    return (datetime(*numbers, tzinfo=zone) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def named(name: str, pattern: str, dataset: Any = None, item: Item | None = None) -> Acquisition:
    return acquisition_of(dataset or Tags(), Path("/somewhere") / name, pattern=pattern, item=item)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("2024:06:01 10:20:30", (2024, 6, 1, 10, 20, 30)),
        ("20240601T102030", (2024, 6, 1, 10, 20, 30)),
        ("20240601T102030Z", (2024, 6, 1, 10, 20, 30)),
        ("20240601t102030z", (2024, 6, 1, 10, 20, 30)),
        ("20240601_102030", (2024, 6, 1, 10, 20, 30)),
        ("20240601102030", (2024, 6, 1, 10, 20, 30)),
        ("20240601T1020", (2024, 6, 1, 10, 20)),
        ("20240601", (2024, 6, 1)),
        ("2024-06-01", (2024, 6, 1)),
        (" 2024-06-01 10:20:30 \n", (2024, 6, 1, 10, 20, 30)),
        ("2024-06-01 10:20:30 UTC", None),
        ("2024-06-01T10:20:30.5Z", (2024, 6, 1, 10, 20, 30, 500_000)),
        ("2024-06-01T10:20:30,123456789Z", (2024, 6, 1, 10, 20, 30, 123_456)),
        ("20240601T102030.999999999", (2024, 6, 1, 10, 20, 30, 999_999)),
        ("2024-06-01T10:20:30+02:00", (2024, 6, 1, 8, 20, 30)),
        ("2024-06-01T23:20:30-0130", (2024, 6, 2, 0, 50, 30)),
        ("2024-06-01T10:20:30+02", (2024, 6, 1, 8, 20, 30)),
        ("0001-01-01T00:00:00+14:00", -62_135_596_800_000_000 - 14 * 3_600_000_000),
        ("1969-12-31T23:59:59.999999Z", (1969, 12, 31, 23, 59, 59, 999_999)),
        *(
            (text, None)
            for text in ("", "0", "2024", "202406", "2024-06", "2024-6-1", "2024-0601", "0000:00:00 00:00:00")
        ),
        *(
            (text, None)
            for text in ("2024-13-01", "2023-02-29", "2024-06-01T24:00:00", "2024-06-01T10:20:61", "2024W01")
        ),
        *(
            (text, None)
            for text in ("2024-06-01T", "2024-06-01T10", "2024-06-01T10:20:30+", "٢٠٢٤0601", "20240601Z", "x")
        ),
    ],
)
def test_times_are_read_as_their_formats_write_them(text: str, numbers: Any) -> None:
    assert time_us_of(text) == (us(*numbers) if isinstance(numbers, tuple) else numbers)


@given(
    st.datetimes(min_value=datetime(1000, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["%Y-%m-%dT%H:%M:%S.%f", "%Y%m%dT%H%M%S.%f", "%Y:%m:%d %H:%M:%S.%f"]),
)
def test_a_time_with_its_zone_comes_back(time: datetime, minutes: int, form: str) -> None:
    zoned = time.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert time_us_of(f"{zoned:{form}%z}") == (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@given(st.text(alphabet="0123456789-:T _.+Zz", max_size=30))
def test_no_text_is_more_than_a_time_or_none(text: str) -> None:
    assert time_us_of(text) is None or isinstance(time_us_of(text), int)


@pytest.mark.parametrize(
    ("value", "percent"),
    [
        *(("12.5", 12.5), (0, 0.0), (100, 100.0), ("999", None), (-1, None), ("nan", None), (None, None), ("", None)),
        *(([], None), (10**400, None)),
    ],
)
def test_clouds_are_percent(value: Any, percent: float | None) -> None:
    assert cloud_cover_of(value) == percent


def test_the_name_counts_first_then_the_item_then_the_tags() -> None:
    imagery = {"ACQUISITIONDATETIME": "2011-01-01 00:00:00", "SATELLITEID": "WV02", "CLOUDCOVER": "3"}
    tags, item = (
        Tags(imagery, TIFFTAG_DATETIME="2010:01:01 00:00:00"),
        Item(id="i1", time_us=us(2020, 1, 1), attributes={"sensor": "sentinel-2a", "cloud_cover": 50.0}),
    )
    path = Path(NAME)
    own = {"sensor": "S2A", "tile": "T33UUP", "cloud_cover": 12.0}
    assert acquisition_of(tags, path, pattern=PATTERN, item=item) == (us(2024, 6, 1, 10, 20, 30), {**own, "item": "i1"})
    assert acquisition_of(tags, path, item=item) == (
        us(2020, 1, 1),
        {"sensor": "sentinel-2a", "cloud_cover": 50.0, "item": "i1"},
    )
    assert acquisition_of(tags, path) == (us(2011, 1, 1), {"sensor": "WV02", "cloud_cover": 3.0})
    assert acquisition_of(Tags(TIFFTAG_DATETIME="2010:01:01 00:00:00"), path) == (us(2010, 1, 1), {})
    assert acquisition_of(Tags(), path) == (None, {})


def test_what_one_source_leaves_open_another_fills() -> None:
    item = Item(id="i1", attributes={"cloud_cover": 50.0})
    tags = Tags({"SATELLITEID": '"WV02"'}, TIFFTAG_DATETIME="2010:01:01 00:00:00")
    found = named("a_7.tif", r"_(?P<orbit>\d+)", tags, item)
    assert found == (us(2010, 1, 1), {"sensor": "WV02", "cloud_cover": 50.0, "item": "i1", "orbit": "7"})


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "yesterday", ""])
def test_a_tag_that_is_no_time_is_passed_over(text: str) -> None:
    both = Tags({"ACQUISITIONDATETIME": text, "CLOUDCOVER": "999", "SATELLITEID": " "}, TIFFTAG_DATETIME=text)
    assert acquisition_of(both, Path("a.tif")) == (None, {})
    later = Tags({"ACQUISITIONDATETIME": text}, TIFFTAG_DATETIME="2010:01:01 00:00:00")
    assert acquisition_of(later, Path("a.tif")) == (us(2010, 1, 1), {})


def test_groups_that_did_not_match_are_left_out() -> None:
    assert named("S2B_T33UUP_20240601T102030.tif", PATTERN).attributes == {"sensor": "S2B", "tile": "T33UUP"}


@pytest.mark.parametrize(
    ("name", "pattern", "message"),
    [
        ("other.tif", PATTERN, "its name does not match the pattern"),
        (
            "S2A_20241301T000000.tif",
            r"_(?P<time>\d+T\d+)",
            "its name has the time '20241301T000000' by the pattern; want",
        ),
        ("a_200.tif", r"_(?P<cloud_cover>\d+)", "its name has the cloud cover '200' by the pattern; wanted percent"),
        ("a_.tif", r"_(?P<time>\d*)", "its name has the time '' by the pattern"),
    ],
)
def test_a_name_that_says_something_else_skips_the_scene(name: str, pattern: str, message: str) -> None:
    with pytest.raises(SceneError, match=message):
        named(name, pattern)


@pytest.mark.parametrize("raw", [b"S2A_\xff\n_7.tif", "S2A_é_7.tif".encode()])
def test_names_of_any_bytes_become_attributes_that_can_be_stored(raw: bytes) -> None:
    found = named(os.fsdecode(raw), r"(?s)S2A_(?P<note>.*)_(?P<orbit>\d)").attributes
    assert json.loads(json.dumps(found, ensure_ascii=False).encode())["orbit"] == "7"


@pytest.mark.parametrize(
    "name", ["geometry", "crs", "gsd", "nodata", "bands", "range", "chip", "scene_chips", "settings", "item"]
)
def test_a_pattern_names_nothing_that_a_chip_has_of_its_own(name: str) -> None:
    pattern = rf"(?P<sensor>S2.)_(?P<{name}>\d+)"
    for refused in (check_pattern, lambda pattern: ChipSettings(pattern=pattern)):
        with pytest.raises(ConfigError, match=f"has a group {name}, which every chip has of its own; wanted another"):
            refused(pattern)
    check_pattern(PATTERN)


def test_tags_are_read_from_real_files(tmp_path: Path) -> None:
    pytest.importorskip("rasterio", exc_type=ImportError)
    from duch.geo.gdal import open_raster

    from .some_scenes import write_scene

    imagery = {"ACQUISITIONDATETIME": "2011-05-01 13:00:00", "SATELLITEID": "WV02", "CLOUDCOVER": "3"}
    plain = write_scene(tmp_path / "plain.tif", (1, 9, 9), tags={"TIFFTAG_DATETIME": "2024:06:01 10:20:30"})
    full = write_scene(
        tmp_path / "full.tif", (1, 9, 9), imagery=imagery, tags={"TIFFTAG_DATETIME": "2024:06:01 10:20:30"}
    )
    with open_raster(plain) as dataset:
        assert acquisition_of(dataset, plain) == (us(2024, 6, 1, 10, 20, 30), {})
    with open_raster(full) as dataset:
        assert acquisition_of(dataset, full) == (us(2011, 5, 1, 13), {"sensor": "WV02", "cloud_cover": 3.0})


def test_a_tag_of_megabytes_is_not_kept_with_every_chip() -> None:
    item = Item(id="i" * 10**6)
    known = acquisition_of(Tags({"SATELLITEID": "s" * 10**6}), Path("a.tif"), item=item).attributes
    assert known == {"sensor": "s" * 255, "item": "i" * 255}
