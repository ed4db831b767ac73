"""STAC items and static catalogs on disk: where their scenes lie, and what the items say of them.

STAC 0.8 to 1.1 (https://github.com/radiantearth/stac-spec). Links are followed on this machine only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from duch.display import display_path, printable
from duch.errors import ConfigError, InputError, needs_extra
from duch.sources import Skipped

from .local_files import Unusable, linked_file, open_regular, read_json, text_of
from .stac_item import Item, item_of, listed, scene_asset


class SceneSource(NamedTuple):
    """A scene's file, and the STAC item that describes it."""

    path: Path
    item: Item | None = None


class StacScenes(NamedTuple):
    """The scenes of a STAC file, and what of it cannot be used, as (name, reason)."""

    sources: list[SceneSource]
    skipped: list[Skipped]


def is_stac(path: Path) -> bool:
    """Whether a file looks like a STAC item, item collection, collection or catalog: JSON that names a STAC version."""
    overlap = b""
    try:
        with open_regular(path) as stream:
            if not stream.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
                return False
            stream.seek(0)
            while chunk := stream.read(1 << 20):
                if b'"stac_version"' in overlap + chunk:
                    return True
                overlap = chunk[-16:]
    except (Unusable, OSError):
        pass
    return False


def scenes_of(path: Path, *, asset: str | None = None) -> StacScenes:
    """The scenes of a STAC item, item collection, collection or catalog, and of all below it, in order.

    Args:
        path: a JSON file.
        asset: name of the asset that is the scene; by default the only raster of an item, its only one with the role
            data, or the one called visual.

    Raises:
        InputError: the file cannot be read or is no STAC.
        ConfigError: an item has several rasters and none is named, or no item has the one that is.
        MissingPackageError: pystac is not installed.
    """
    found = StacScenes([], [])
    seen: set[str] = set()
    without_asset: list[str] = []
    pending = [path]
    while pending:
        file = pending.pop()
        if os.path.realpath(file) in seen:
            continue
        seen.add(os.path.realpath(file))
        try:
            document = read_json(file)
            items = _items(document)
        except Unusable as reason:
            if file is path:
                raise InputError(f"{display_path(path)} {reason}") from None
            found.skipped.append((display_path(file), str(reason)))
            continue
        for item in items:
            name = _name(file, item, document)
            try:
                known = item_of(item)
                scene = scene_asset(item["assets"], asset, name)
                if scene is None:
                    without_asset.append(f"{name} has {listed(item['assets'])}")
                    raise Unusable(f"has no asset {asset!r}; it has {listed(item['assets'])}")
                found.sources.append(SceneSource(linked_file(scene.get("href"), _folder(item, file)), known))
            except Unusable as reason:
                found.skipped.append((name, str(reason)))
        below = []
        for href in _links(document):
            try:
                below.append(linked_file(href, file.parent))
            except Unusable as reason:
                found.skipped.append((display_path(file), f"has a link that {reason}"))
        pending += reversed(below)
    if without_asset and not found.sources and len(without_asset) == len(found.skipped):
        raise ConfigError(f"no item has an asset {asset!r}: {without_asset[0]}; name one of them with --asset")
    return found


def item_beside(path: Path) -> Item | None:
    """The STAC item that lies beside a scene; None if there is none.

    For scene.tif in the folder pass: scene.json or scene.stac.json; item.json or pass.json if an asset of it is the
    scene. A file that is something else is passed over.
    """
    for name in (f"{path.stem}.json", f"{path.stem}.stac.json", "item.json", f"{path.parent.name}.json"):
        beside = path.with_name(name)
        if not is_stac(beside):
            continue
        try:
            document = read_json(beside)
            items = _items(document)
            is_its_own = beside.stem.removesuffix(".stac") == path.stem
            if len(items) == 1 and (is_its_own or _shows(items[0], path)):
                return item_of(items[0])
        except Unusable:
            continue
    return None


def _items(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of an item or an item collection, brought to the newest STAC; none of a catalog or collection."""
    if document.get("type") == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list) or not all(
            isinstance(feature, dict) and "stac_version" in feature for feature in features
        ):
            raise Unusable("is GeoJSON whose features are no STAC items; wanted STAC")
        return features
    with needs_extra("geo", "reading STAC"):
        from pystac.serialization import identify_stac_object_type
    try:
        kind = identify_stac_object_type(document)
    except Exception:  # a version that is no text, and whatever else pystac does not expect
        kind = None
    if kind is None:
        raise Unusable("is no STAC object; wanted an item, item collection, collection or catalog")
    return [document] if kind == "Feature" else []


def _name(file: Path, item: dict[str, Any], document: dict[str, Any]) -> str:
    """How a report calls an item."""
    return display_path(file) if item is document else f"{display_path(file)}: {printable(str(item.get('id'))[:80])}"


def _links(document: dict[str, Any]) -> Iterator[Any]:
    """What the links of a catalog or collection to its children and items say."""
    links = document.get("links") if document.get("type") not in ("Feature", "FeatureCollection") else None
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") in ("child", "item"):
            yield link.get("href")


def _folder(item: dict[str, Any], file: Path) -> Path:
    """The folder that an item's links are relative to: its own, which an item collection may have taken it from."""
    links = item.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") == "self":
            href = text_of(link.get("href")) or ""
            if href.startswith("/") and os.path.isfile(href):
                return Path(href).parent
    return file.parent


def _shows(item: dict[str, Any], scene: Path) -> bool:
    """Whether an asset of an item is this file."""
    assets = item.get("assets")
    for asset in assets.values() if isinstance(assets, dict) else []:
        try:
            if isinstance(asset, dict) and os.path.samefile(linked_file(asset.get("href"), scene.parent), scene):
                return True
        except (Unusable, OSError):
            continue
    return False
