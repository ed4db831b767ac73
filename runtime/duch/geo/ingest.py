"""Scenes into a gallery: each is cut into chips while it is read, and all its chips are added in one commit.

Run again, an ingest codes only scenes that are new or changed. A scene is in the gallery wholly or not at all, so one
that was interrupted is read again from its beginning.

Shapes: n chips.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from duch.catalog import is_gallery
from duch.display import display_path
from duch.errors import InputError, SceneError
from duch.gallery_writer import GalleryWriter
from duch.ids import id_to_path, path_to_id, window_of
from duch.ingest import IngestReport
from duch.ingest_place import check_batch_size, is_gone, open_writer, settle_root, wanted_root_of
from duch.optimize import refresh_tables

from .coding import CodedScene, code_scene
from .scenes import FoundScenes, find_scenes
from .settings import ChipSettings

if TYPE_CHECKING:
    from duch.catalog import Catalog
    from duch.encoder import Encoder
    from duch.gallery_writer import Appended


@dataclass
class ScenesReport(IngestReport):
    """What an ingest of scenes did; `added` to `ignored` count scenes.

    Attributes:
        empty: scenes of which no chip has data enough; they are among the skipped ones.
        chips: chips that were coded and added.
        chips_removed: chips that were taken out: of scenes that changed, and by `prune`.
        chips_left_out: chips with too large a share of pixels without data.
    """

    empty: int = 0
    chips: int = 0
    chips_removed: int = 0
    chips_left_out: int = 0

    @property
    def in_vain(self) -> bool:
        """Whether there were scenes and none of them could be used."""
        return bool(self.skipped) and not (self.added or self.replaced or self.unchanged or self.empty)


@dataclass(frozen=True)
class ScenesProgress:
    """How far an ingest of scenes is.

    Attributes:
        scenes: scenes that are done.
        n_scenes: scenes in all.
        part: part of the next one that is done, 0 to 1.
        chips: chips coded so far.
    """

    scenes: int
    n_scenes: int
    part: float
    chips: int


def index_scenes(
    encoder: Encoder,
    scenes: str | os.PathLike[str],
    gallery_folder: str | os.PathLike[str],
    settings: ChipSettings,
    *,
    root: str | os.PathLike[str] | None = None,
    asset: str | None = None,
    prune: bool = False,
    batch_size: int = 64,
    on_progress: Callable[[ScenesProgress], None] | None = None,
) -> ScenesReport:
    """Code the chips of scenes into a gallery, which is made if it is not there.

    The id of a chip is the scene's path relative to the root and its window. A scene whose file has the size and
    mtime_ns of its chips, and whose chips were cut with these settings and are all there, is not read again. A scene
    that cannot be read is skipped and reported; chips that it has in the gallery stay, for what they show is still
    there. A STAC item beside a scene (scene.json for scene.tif) is read as if it had been named.

    Args:
        encoder: makes the codes.
        scenes: a folder, searched as by `index_images`; a raster file; a STAC item, item collection or static catalog.
        gallery_folder: the gallery.
        settings: how scenes are cut.
        root: see `index_images`; by default the folder of the scenes, or of the file.
        asset: see `find_scenes`.
        prune: take out the chips of scenes that are gone from the folder; by default they are kept and counted.
        batch_size: chips coded at once.
        on_progress: called at the beginning, and after every batch and every scene.

    Raises:
        InputError: no scene there, or none that can be opened; it is outside the root, or the gallery has another one;
            `prune` without a folder.
        ConfigError: settings that do not fit a scene, such as a value range that is missing; scenes before it are safe.
        GalleryError: the gallery cannot be written, or belongs to another bundle.
        MissingPackageError: rasterio is not installed.
    """
    check_batch_size(batch_size)
    found = find_scenes(scenes, asset=asset)
    if prune and not found.searched:
        raise InputError(
            f"{display_path(scenes)} is no folder; wanted one for --prune, to see which of its scenes are gone"
        )
    wanted_root = wanted_root_of(found.folder, root)
    encoder.load("image")  # what is wrong with it shall leave no empty gallery behind; nor shall useless scenes
    if not is_gallery(gallery_folder):
        _refuse_if_none_opens(found, settings)
    with open_writer(encoder, gallery_folder) as writer:
        base = settle_root(writer, found.folder, wanted_root)
        writer.remember(root=base)
        report = ScenesReport(ignored=found.ignored, skipped=list(found.skipped))

        def tell(scenes: int, part: float = 0.0, chips: int = 0) -> None:
            if on_progress is not None:
                on_progress(ScenesProgress(scenes, len(found.sources), part, report.chips + chips))

        tell(0)
        for done, source in enumerate(found.sources):
            uri = path_to_id(source.path.relative_to(base))
            try:
                if is_current(writer, uri, _size_and_mtime(source.path), settings):
                    report.unchanged += 1
                else:
                    # Held by no name, or the tiles of this scene would be in memory while the next one is coded.
                    _add(
                        writer,
                        report,
                        code_scene(
                            encoder,
                            source,
                            settings,
                            uri=uri,
                            batch_size=batch_size,
                            on_progress=partial(tell, done),
                        ),
                    )
            except SceneError as error:
                kept = "; its former chips are kept" if writer.chip_of(uri) is not None else ""
                report.skipped.append((uri, _without_path(error, source.path) + kept))
            tell(done + 1)
        if found.searched:
            _look_for_gone(writer, base, found, report, prune=prune)
        refresh_tables(writer)
    return report


def is_current(gallery: GalleryWriter | Catalog, uri: str, file: tuple[int, int], settings: ChipSettings) -> bool:
    """Whether a gallery holds a scene as its file is, cut with these settings, and none of its chips was taken out.

    Args:
        gallery: open.
        uri: the scene's.
        file: its size and mtime_ns.
        settings: how it would be cut now.
    """
    chip = gallery.chip_of(uri)
    if chip is None:
        return False
    known = (chip.size, chip.mtime_ns, chip.attributes.get("settings"), chip.attributes.get("scene_chips"))
    return known == (*file, settings.digest, gallery.count_chips(uri))


def store_scene(writer: GalleryWriter, coded: CodedScene) -> Appended:
    """Add the chips of a scene and take out its former ones, in one commit.

    Raises:
        SceneError: an id belongs to another tile; nothing was changed.
        GalleryError: the disk is full or fails; likewise.
    """
    for tile in writer.find_all([tile.id for tile in coded.tiles]).values():
        if tile.uri != coded.uri or tile.window is None:
            raise SceneError(f"a tile that is no chip of it has the id {tile.id!r} in the gallery; rename the file")
    return writer.append(coded.codes, coded.tiles, remove=[chip.id for chip in writer.chips_of(coded.uri)])


def _refuse_if_none_opens(found: FoundScenes, settings: ChipSettings) -> None:
    from .raster import open_scene

    reasons = [f"{name} {reason}" for name, reason in found.skipped]
    for source in found.sources:
        try:
            with open_scene(source.path, settings, source.item):
                return
        except SceneError as error:
            reasons.append(str(error))
    raise InputError(reasons[0] if len(reasons) == 1 else f"none of {len(reasons)} scenes can be used; {reasons[0]}")


def _size_and_mtime(scene: Path) -> tuple[int, int]:
    try:
        now = os.stat(scene)
    except OSError as error:
        raise SceneError(f"{display_path(scene)} cannot be read: {error.strerror}") from error
    return now.st_size, now.st_mtime_ns


def _without_path(error: SceneError, path: Path) -> str:
    """What is wrong with a scene that is named already."""
    return str(error).removeprefix(display_path(path)).lstrip(": ")


def _add(writer: GalleryWriter, report: ScenesReport, coded: CodedScene) -> None:
    stored = store_scene(writer, coded)
    report.chips += len(coded.tiles)
    report.chips_removed += stored.removed
    report.chips_left_out += coded.left_out
    if not coded.tiles:
        report.empty += 1
        report.skipped.append((coded.uri, f"none of its {coded.left_out:,} chips has data enough for --max-nodata"))
    elif stored.replaced or stored.removed:
        report.replaced += 1
    else:
        report.added += 1


def _look_for_gone(writer: GalleryWriter, base: Path, found: FoundScenes, report: ScenesReport, *, prune: bool) -> None:
    known = {source.path for source in found.sources}
    uris = {uri for tile_id, uri in writer.live_images() if uri is not None and window_of(tile_id, uri) is not None}
    for uri in sorted(uris):
        path = base / id_to_path(uri)
        if path in known or not path.is_relative_to(found.folder) or not found.unread.isdisjoint(path.parents):
            continue
        if not is_gone(path):
            continue
        if prune:
            report.removed += 1
            report.chips_removed += writer.remove([chip.id for chip in writer.chips_of(uri)])
        else:
            report.missing += 1
