"""When, by what and under how many clouds a scene was taken: from its name, its STAC item or its tags."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from duch.errors import ConfigError, SceneError

if TYPE_CHECKING:
    from .stac_item import Item

# Attributes that chips get from their scene's pixels and settings, which a name cannot know better.
_OWN_ATTRIBUTES = ("geometry", "crs", "gsd", "nodata", "bands", "range", "chip", "scene_chips", "settings", "item")
# As long as a file's name may be. Every chip of the scene bears the text, and a tag may hold megabytes.
_LONGEST_TEXT = 255
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# 2024:06:01 10:20:30 (TIFF), 20240601T102030Z and 2024-06-01T10:20:30.123456789+02:00 (ISO 8601), 20240601_102030.
_TIME = re.compile(
    r"(?P<year>\d{4})(?P<dash>[-:]?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    r"(?:[T_ ]?(?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?"
    r" ?(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII | re.IGNORECASE,
)


class Acquisition(NamedTuple):
    """What is known of how a scene was taken.

    Attributes:
        time_us: when, in microseconds since 1970 UTC; None where nothing says it.
        attributes: JSON values: `sensor`, `cloud_cover` in percent, `item`, and the named groups of the pattern.
    """

    time_us: int | None
    attributes: dict[str, Any]


def acquisition_of(dataset: Any, path: Path, *, pattern: str | None = None, item: Item | None = None) -> Acquisition:
    """How a scene was taken. Its name counts before its STAC item, that before IMAGERY tags, those before TIFF's own.

    Texts are cut off after 255 characters.

    Args:
        dataset: the scene, open in rasterio.
        path: its file.
        pattern: regular expression found in the file's name; its group `time` is the time, every other named group that
            matched an attribute, `cloud_cover` a number.
        item: the STAC item that describes it.

    Raises:
        SceneError: the name does not match the pattern, or what it has for a time or a number is none.
    """
    sources = [_from_tags(dataset)]
    if item is not None:
        sources.append(Acquisition(item.time_us, {**item.attributes, "item": item.id}))
    if pattern is not None:
        sources.append(_from_name(path, pattern))
    times = [source.time_us for source in sources if source.time_us is not None]
    attributes = {
        name: value[:_LONGEST_TEXT] if isinstance(value, str) else value
        for source in sources
        for name, value in source.attributes.items()
    }
    return Acquisition(times[-1] if times else None, attributes)


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that names what every chip has of its own.

    Raises:
        ConfigError: it names such a group.
    """
    taken = [name for name in re.compile(pattern).groupindex if name in _OWN_ATTRIBUTES]
    if taken:
        raise ConfigError(
            f"the pattern {pattern!r} has a group {taken[0]}, which every chip has of its own; wanted another name"
        )


def time_us_of(text: str) -> int | None:
    """Microseconds since 1970 UTC of a time as TIFF or ISO 8601 writes it; None for no time.

    Without a zone it is UTC. What is finer than a microsecond is cut off.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        return None
    zone = (found["zone"] or "Z").upper().replace(":", "")
    offset = timedelta(0) if zone == "Z" else timedelta(hours=int(zone[1:3]), minutes=int(zone[3:] or 0))
    numbers = [int(found[name] or 0) for name in ("year", "month", "day", "hour", "minute", "second")]
    try:
        time = datetime(*numbers, int((found["fraction"] or "").ljust(6, "0")[:6]), tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    return (time - _EPOCH + (offset if zone.startswith("-") else -offset)) // timedelta(microseconds=1)


def cloud_cover_of(value: Any) -> float | None:
    """A share of clouds in percent; None for what is none, such as 999 for unknown."""
    try:
        percent = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return percent if 0 <= percent <= 100 else None


def _from_tags(dataset: Any) -> Acquisition:
    imagery = dataset.tags(ns="IMAGERY")
    texts = (imagery.get("ACQUISITIONDATETIME", ""), dataset.tags().get("TIFFTAG_DATETIME", ""))
    times = [time for time in map(time_us_of, texts) if time is not None]
    attributes: dict[str, Any] = {}
    sensor = imagery.get("SATELLITEID", "").strip().strip('"')
    if sensor:
        attributes["sensor"] = sensor
    cloud_cover = cloud_cover_of(imagery.get("CLOUDCOVER"))
    if cloud_cover is not None:
        attributes["cloud_cover"] = cloud_cover
    return Acquisition(times[0] if times else None, attributes)


def _from_name(path: Path, pattern: str) -> Acquisition:
    name = os.fsencode(path.name).decode("utf-8", "backslashreplace")  # JSON has no bytes
    found = re.search(pattern, name)
    if found is None:
        raise SceneError(f"its name does not match the pattern {pattern!r}")
    attributes: dict[str, Any] = {name: text for name, text in found.groupdict().items() if text is not None}
    text = attributes.pop("time", None)
    time_us = None if text is None else time_us_of(text)
    if text is not None and time_us is None:
        raise SceneError(f"its name has the time {text!r} by the pattern; wanted one such as 20240601T102030")
    if "cloud_cover" in attributes:
        attributes["cloud_cover"] = cloud_cover_of(attributes["cloud_cover"])
        if attributes["cloud_cover"] is None:
            raise SceneError(f"its name has the cloud cover {found['cloud_cover']!r} by the pattern; wanted percent")
    return Acquisition(time_us, attributes)
