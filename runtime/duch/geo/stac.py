"""STAC items and static catalogs on disk: where their scenes lie, and what the items say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from duch.region import BBox
from duch.sources import Skipped


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is used of a STAC item.

    Attributes:
        id: its id.
        time_us: its time, or the start of its span, in microseconds since 1970 UTC.
        attributes: `sensor` and `cloud_cover`, as far as it names them.
        bbox: west, south, east, north in degrees.
    """

    id: str
    time_us: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    bbox: BBox | None = None


class SceneSource(NamedTuple):
    """A scene's file, and the STAC item that describes it."""

    path: Path
    item: Item | None = None


class StacScenes(NamedTuple):
    """The scenes of a STAC file, and what of it cannot be used, as (name, reason)."""

    sources: list[SceneSource]
    skipped: list[Skipped]


def is_stac(path: Path) -> bool:
    """Whether a file looks like a STAC item, item collection, collection or catalog."""
    raise NotImplementedError


def scenes_of(path: Path, *, asset: str | None = None) -> StacScenes:
    """The scenes of a STAC item, item collection, collection or catalog, and of all below it."""
    raise NotImplementedError


def item_beside(path: Path) -> Item | None:
    """The STAC item that lies beside a scene; None if there is none."""
    raise NotImplementedError
