"""STAC items: what is used of them, and which of their assets is the scene. STAC 0.8 to 1.1."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from duch.display import printable
from duch.errors import ConfigError, needs_extra, one_line
from duch.sources import SCENE_SUFFIXES

from .acquisition import cloud_cover_of, time_us_of
from .local_files import Unusable, text_of

_PICTURES = {"thumbnail", "overview"}  # roles of assets that show a scene, but are none


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is used of a STAC item.

    Attributes:
        id: its id.
        time_us: its time, or the start of its span, in microseconds since 1970 UTC.
        attributes: `sensor` (its platform, else constellation, else first instrument) and `cloud_cover` in percent, as
            far as it names them.
    """

    id: str
    time_us: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


def item_of(item: dict[str, Any]) -> Item:
    """What is used of an item's JSON.

    Raises:
        Unusable: it is no valid item.
    """
    properties = _newest(item)["properties"]
    item_id = text_of(item.get("id"))
    if item_id is None:
        raise Unusable("is an item without an id")
    time = properties.get("datetime") or properties.get("start_datetime")
    time_us = time_us_of(time) if isinstance(time, str) else None
    if time is not None and time_us is None:
        raise Unusable(f"has the time {str(time)[:40]!r}; wanted one such as 2024-06-01T10:20:30Z")
    instruments = properties.get("instruments")
    names = [properties.get("platform"), properties.get("constellation")]
    names += instruments[:1] if isinstance(instruments, list) else []
    known = {
        "sensor": next(filter(None, map(text_of, names)), None),
        "cloud_cover": cloud_cover_of(properties.get("eo:cloud_cover")),
    }
    return Item(
        id=item_id,
        time_us=time_us,
        attributes={name: value for name, value in known.items() if value is not None},
    )


def scene_asset(assets: dict[str, Any], asset: str | None, name: str) -> dict[str, Any] | None:
    """The asset that is the scene; None if there is none of that name.

    Args:
        assets: of an item.
        asset: the name that is asked for; else the only raster, the only one with the role data, or visual.
        name: what to call the item.

    Raises:
        Unusable: there is no raster.
        ConfigError: there are several.
    """
    known = {key: value for key, value in assets.items() if isinstance(value, dict)}
    if asset is not None:
        return known.get(asset)
    rasters = [key for key, value in known.items() if _is_raster(value)]
    if not rasters:
        raise Unusable(f"has no raster among its assets: {listed(assets)}")
    data = [key for key in rasters if "data" in _roles(known[key])]
    for chosen in (rasters, data, ["visual"] if "visual" in rasters else []):
        if len(chosen) == 1:
            return known[chosen[0]]
    raise ConfigError(f"{name} has several rasters: {listed(rasters)}; name one of them with --asset")


def _is_raster(asset: dict[str, Any]) -> bool:
    roles = _roles(asset)
    if not _PICTURES.isdisjoint(roles) and "data" not in roles:
        return False
    media_type, href = asset.get("type"), asset.get("href")
    if isinstance(media_type, str):
        return media_type.startswith("image/") and not media_type.startswith("image/svg")
    return isinstance(href, str) and os.path.splitext(href)[1].lower() in SCENE_SUFFIXES


def _roles(asset: dict[str, Any]) -> set[str]:
    roles = asset.get("roles")
    return {role for role in roles if isinstance(role, str)} if isinstance(roles, list) else set()


def listed(names: Collection[str]) -> str:
    """Names of assets, as many as a line holds."""
    shown = [printable(name) for name in names][:12]
    return ", ".join(shown) + (" ..." if len(names) > len(shown) else "") or "none"


def _newest(item: dict[str, Any]) -> dict[str, Any]:
    """An item as the newest STAC writes it."""
    with needs_extra("geo", "reading STAC"):
        from pystac.serialization import identify_stac_object, migrate_to_latest
    for name, kind in (("properties", dict), ("assets", dict)):
        if not isinstance(item.get(name), kind):
            raise Unusable(f"is an item without {name}")
    try:
        return migrate_to_latest(item, identify_stac_object(item))
    except Exception as error:  # of whatever class: pystac does not expect malformed items
        raise Unusable(f"is no valid item: {one_line(error)}") from None
