"""What there is to cut into chips: the rasters of a folder tree, one raster, or the scenes that a STAC file names."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from duch.display import display_path
from duch.errors import InputError
from duch.sources import SCENE_SUFFIXES, Skipped, find_images

from .stac import SceneSource, is_stac, scenes_of


@dataclass
class FoundScenes:
    """What there is to index.

    Attributes:
        folder: all scenes lie below it; without links above it.
        sources: the scenes, no file twice.
        ignored: how many files are no scenes by their suffix.
        skipped: what cannot be used, by its name, with the reason.
        searched: whether all of the folder was looked at, so that a scene that is not among them may be gone.
        unread: folders that cannot be read; nothing is known of the files below them.
    """

    folder: Path
    sources: list[SceneSource]
    ignored: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    searched: bool = False
    unread: set[Path] = field(default_factory=set)


def find_scenes(place: str | os.PathLike[str], *, asset: str | None = None) -> FoundScenes:
    """The scenes of a folder tree, of one raster file, or of a STAC item, item collection or static catalog.

    Args:
        place: the folder or file. A folder is searched with its subfolders, and links to folders; no folder twice.
        asset: name of the asset of each STAC item that is the scene; by default its only raster.

    Raises:
        InputError: there is nothing, or no scene in it; `asset` without STAC.
        MissingPackageError: a STAC file, and pystac is not installed.
    """
    path = Path(place)
    if not path.exists():
        raise InputError(f"{display_path(path)} does not exist; wanted a folder of scenes, a raster or a STAC file")
    if path.is_file() and (path.suffix.lower() in (".json", ".geojson") or is_stac(path)):
        return _of_stac(path, asset)
    if asset is not None:
        raise InputError(f"--asset {asset} is for STAC, and {display_path(path)} is no STAC file; leave it out")
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise InputError(f"{display_path(path)} is no regular file; wanted a folder of scenes, a raster or a STAC file")
    folder = Path(os.path.realpath(path.parent))
    return FoundScenes(folder, [SceneSource(folder / path.name)])


def _of_folder(path: Path) -> FoundScenes:
    folder = Path(os.path.realpath(path))
    found = find_images(folder, SCENE_SUFFIXES)
    name = display_path(path)
    if b"" in found.unread:
        raise InputError(f"{name} {found.skipped[0][1]}; wanted a folder of scenes")
    if not found.files and not found.skipped:
        raise InputError(
            f"{name} holds no scenes and {found.ignored} other files; wanted {', '.join(sorted(SCENE_SUFFIXES))}"
        )
    return FoundScenes(
        folder,
        [SceneSource(folder / os.fsdecode(file.relative)) for file in found.files],
        ignored=found.ignored,
        skipped=[(display_path(os.fsdecode(below)), reason) for below, reason in found.skipped],
        searched=True,
        unread={folder / os.fsdecode(below) for below in found.unread},
    )


def _of_stac(path: Path, asset: str | None) -> FoundScenes:
    told, skipped = scenes_of(path, asset=asset)
    by_path = {Path(os.path.realpath(source.path)): source for source in told}
    if not by_path and not skipped:
        raise InputError(f"{display_path(path)} names no scenes; wanted items with an asset that is a raster")
    folder = Path(os.path.realpath(path.parent))
    if not all(scene.is_relative_to(folder) for scene in by_path):
        folder = Path(os.path.commonpath([scene.parent for scene in by_path]))
    return FoundScenes(
        folder, [SceneSource(scene, source.item) for scene, source in by_path.items()], skipped=list(skipped)
    )
