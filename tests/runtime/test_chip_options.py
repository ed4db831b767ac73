"""Options of chips as settings, and what is wrong with them in one line."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from duch.chip_options import bands_of, chip_options, percentiles_of, ranges_of
from duch.errors import ConfigError
from duch.geo.settings import ChipSettings


@click.command()
@click.argument("place")
@chip_options
def command(place: str, chips: ChipSettings | None) -> ChipSettings | None:
    assert place == "here"
    return chips


def parsed(*arguments: str) -> ChipSettings | None:
    result = CliRunner().invoke(command, ["here", *arguments], catch_exceptions=False, standalone_mode=False)
    settings: ChipSettings | None = result.return_value
    return settings


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(command, ["here", *arguments])
    assert isinstance(result.exception, ConfigError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ("--chip 64", ChipSettings(size=64)),
        ("--chip 64 --overlap 0.25 --edge pad", ChipSettings(size=64, overlap=0.25, edge="pad")),
        ("--chip 64 --bands 4,3,2 --range 0:3000", ChipSettings(size=64, bands=(4, 3, 2), ranges=((0, 3000),))),
        ("--chip 64 --bands 7 --range -1.5:1e3", ChipSettings(size=64, bands=(7,), ranges=((-1.5, 1000),))),
        ("--chip 64 --range 0:3,1:4,2:5", ChipSettings(size=64, ranges=((0, 3), (1, 4), (2, 5)))),
        ("--chip 64 --percentile 2:98", ChipSettings(size=64, percentiles=(2, 98))),
        ("--chip 64 --max-nodata 0 --gsd 10", ChipSettings(size=64, max_nodata=0, gsd=10)),
        ("--chip 64 --crs EPSG:32633 --unlocated", ChipSettings(size=64, crs="EPSG:32633", unlocated=True)),
        ("--chip 64 --pattern (?P<time>x)", ChipSettings(size=64, pattern="(?P<time>x)")),
    ],
)
def test_options_become_settings(arguments: str, settings: ChipSettings) -> None:
    found = parsed(*arguments.split())
    assert found == settings
    assert found.digest == settings.digest  # 3000 is 3000.0: no scene is cut anew for it


def test_without_options_there_are_no_chips() -> None:
    assert parsed() is None


def option_names() -> list[str]:
    return [name for option in command.params for name in option.opts if name.startswith("--") and name != "--chip"]


@pytest.mark.parametrize("name", option_names())
def test_an_option_without_a_size_of_chips_is_refused(name: str) -> None:
    values = {"--bands": "4,3,2", "--range": "0:3000", "--percentile": "2:98", "--edge": "pad", "--unlocated": None}
    value = values.get(name, "0.25")
    assert refused(name, *([] if value is None else [value])).startswith(f"{name} is given without --chip; wanted")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--chip 7", "wanted 8 to 5792"),
        ("--chip 64 --overlap 1", "wanted a share from 0 and below 1"),
        ("--chip 64 --overlap nan", "wanted a share from 0 and below 1"),
        ("--chip 64 --overlap 0.999", "a chip of 64 pixels lies where the one before it does"),
        ("--chip 64 --bands 4,3", "wanted one or three numbers"),
        ("--chip 64 --bands 4,,2", "--bands is '4,,2'; wanted one or three numbers"),
        ("--chip 64 --bands 4;3;2", "--bands is '4;3;2'; wanted one or three numbers"),
        ("--chip 64 --bands 0", "wanted one or three numbers from 1 on"),
        ("--chip 64 --range 3000", "--range is '3000'; wanted LOW:HIGH"),
        ("--chip 64 --range 0:3000,", "--range is '0:3000,'; wanted LOW:HIGH"),
        ("--chip 64 --range 0:nan", "--range is '0:nan'; wanted LOW:HIGH"),
        ("--chip 64 --range 0:inf", "wanted two numbers that rise"),
        ("--chip 64 --range -1e308:1e308", "wanted two numbers that rise"),  # too far apart: all would be black
        ("--chip 64 --range 9:9", "wanted two numbers that rise"),
        ("--chip 64 --range 0:3:5", "--range is '0:3:5'; wanted LOW:HIGH"),
        ("--chip 64 --range 0:1,0:2", "wanted one, or one for each of three bands"),
        ("--chip 64 --percentile 98:2", "wanted two that rise"),
        ("--chip 64 --percentile 2-98", "--percentile is '2-98'; wanted LOW:HIGH"),
        ("--chip 64 --percentile 2:98 --range 0:1", "wanted one of them"),
        ("--chip 64 --max-nodata 1.1", "wanted 0 to 1"),
        ("--chip 64 --gsd 0", "wanted metres above 0"),
        ("--chip 64 --gsd inf", "wanted metres above 0"),
        ("--chip 64 --pattern (", "no regular expression"),
        ("--chip 64 --pattern S2A", "no named group"),
    ],
)
def test_bad_options_are_one_line(arguments: str, message: str) -> None:
    assert message in refused(*arguments.split())


@given(st.text(alphabet="0123456789.,:-+einfa٣ _", max_size=12) | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    parsers: list[Any] = [bands_of, ranges_of, percentiles_of]
    for parse in parsers:
        with suppress(ConfigError):
            assert isinstance(parse(text), tuple)


@given(st.lists(st.integers(1, 10**8 - 1), min_size=1))
def test_bands_come_back(bands: list[int]) -> None:
    assert bands_of(",".join(map(str, bands))) == tuple(bands)


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)), min_size=1))
def test_ranges_come_back(pairs: list[tuple[float, float]]) -> None:
    assert ranges_of(",".join(f"{low!r}:{high!r}" for low, high in pairs)) == tuple(pairs)


def test_help_names_units_and_defaults() -> None:
    text = re.sub(r"\s+", " ", CliRunner().invoke(command, ["--help"]).output)
    for name in option_names():
        assert name in text
    for words in ("by default 0.5", "--chip PIXELS", "--gsd METRES"):
        assert words in text
