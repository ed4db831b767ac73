"""Scenes into a gallery as they land, for months: `duch watch`.

What has been done is known from the gallery alone. All chips of a scene are added in one commit, and a scene that is
there with the same size, mtime and settings, and all its chips, is not read again, so a watch may be killed at any
time and the next one goes on.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from duch.catalog import Catalog, catalog_of
from duch.display import display_path
from duch.errors import DuchError, InputError, SceneError, needs_extra, one_line
from duch.gallery_writer import Appended, GalleryWriter
from duch.ids import path_to_id
from duch.ingest_place import check_batch_size, is_gone, open_writer, settle_root, wanted_root_of
from duch.optimize import refresh_tables
from duch.sources import ImageFile

from .coding import CodedScene, code_scene
from .incoming import Incoming, Look
from .ingest import is_current, store_scene
from .settings import ChipSettings
from .stac import SceneSource
from .waiting import Stop, Stopped, patiently

if TYPE_CHECKING:
    from duch.encoder import Encoder
    from duch.logfmt import EventLog, Level

_ONCE_LIMIT = 10.0  # seconds that a single pass waits for the gallery; a service waits for ever
_Result = TypeVar("_Result")


@dataclass
class WatchReport:
    """What a watch did.

    Attributes:
        indexed: scenes whose chips were added or replaced.
        empty: scenes of which no chip has data enough.
        skipped: scenes that could not be used.
        waiting: scenes that may still have been written when it looked last.
    """

    indexed: int = 0
    empty: int = 0
    skipped: int = 0
    waiting: int = 0


class Watch:
    """Codes scenes into a gallery as they land in a folder.

    The writer's lock is held only while a scene's chips are added. Scenes that vanish from the folder stay in the
    gallery. A folder that cannot be read, a gallery that another writer holds and a full disk are waited for. A scene
    that cannot be used is told once, and taken again if it changes.
    """

    def __init__(
        self,
        encoder: Encoder,
        incoming_folder: str | os.PathLike[str],
        gallery_folder: str | os.PathLike[str],
        settings: ChipSettings,
        log: EventLog,
        *,
        root: str | os.PathLike[str] | None = None,
        interval: float = 5.0,
        settle: float = 10.0,
        once: bool = False,
        batch_size: int = 64,
        stop: Stop | None = None,
    ) -> None:
        """Check what would be wrong for every scene.

        Args:
            encoder: makes the codes.
            incoming_folder: searched with its subfolders.
            gallery_folder: the gallery, which is made if it is not there.
            settings: how scenes are cut into chips.
            log: told of each scene.
            root: folder that ids are relative to; by default the gallery's own, and the incoming one for a new gallery.
            interval: seconds between two looks at the folder.
            settle: seconds for which a scene must not have changed.
            once: take what is there and end, after `settle` seconds if some of it may still be written.
            batch_size: chips coded at once.
            stop: set to end. The batch that is being coded is the last one; its scene is left for the next time.

        Raises:
            InputError: no such folder, or it is outside the root.
            ConfigError: the settings name no coordinate system that there is.
            MissingPackageError: rasterio is not installed.
        """
        with needs_extra("geo", "duch watch"):
            import rasterio  # noqa: F401
        from .georeference import crs_of

        check_batch_size(batch_size)
        if settings.crs is not None:
            crs_of(settings.crs)
        self._folder, self._gallery = Path(os.path.realpath(incoming_folder)), Path(gallery_folder)
        if not self._folder.is_dir():
            what = "is a file" if self._folder.exists() else "does not exist"
            raise InputError(f"{display_path(self._folder)} {what}; wanted the folder that scenes land in")
        self._wanted_root = wanted_root_of(self._folder, root)
        encoder.load("image")
        self._encoder, self._settings, self._batch_size = encoder, settings, batch_size
        self._log, self._stop, self._once = log, stop or Stop(), once
        self._interval, self._settle = interval, settle
        self._incoming = Incoming(self._folder, settle=settle)
        self._root = self._folder  # until the gallery is open
        self._unread: dict[bytes, str] = {}
        self._report = WatchReport()

    def run(self) -> WatchReport:
        """Look, code, wait, until it is stopped.

        Raises:
            InputError: the gallery has another root; under `once` also a folder that cannot be read.
            GalleryError: the gallery is damaged, or belongs to another bundle; under `once` also what is waited for
                else.
        """
        try:
            self._begin()
            look = self._pass()
            while not self._once:
                self._stop.pause(self._interval)
                look = self._pass()
            if look.waiting:
                self._stop.pause(self._settle)
                look = self._pass()
            for path, reason in look.unread.items():
                raise InputError(f"{self._name(path)} {reason}; wanted a folder of scenes")
        except Stopped:
            pass
        except DuchError as error:
            self._log.event("error", "stopped", reason=str(error))
            raise
        self._log.event("info", "stopped", **asdict(self._report))
        return self._report

    def _begin(self) -> None:
        # Not patient with a disk: it may be the wrong folder.
        with self._patiently(lambda: open_writer(self._encoder, self._gallery), only_lock=True) as writer:
            self._root = settle_root(writer, self._folder, self._wanted_root)
            writer.remember(root=self._root)
            n_tiles = len(writer)
        self._log.event(
            "info",
            "started",
            incoming=display_path(self._folder),
            gallery=display_path(self._gallery),
            tiles=n_tiles,
        )

    def _pass(self) -> Look:
        look = self._incoming.look()
        self._report.waiting = look.waiting
        self._tell_unread(look.unread)
        for file in self._patiently(lambda: self._not_in_gallery(look.whole)) if look.whole else ():
            self._take(file)
        return look

    def _not_in_gallery(self, files: list[ImageFile]) -> list[ImageFile]:
        with closing(Catalog.open_to_read(catalog_of(self._gallery))) as catalog:
            new = [file for file in files if not self._is_in(catalog, file)]
        for file in set(files).difference(new):
            self._incoming.done(file)
        if len(new) < len(files):
            self._log.event("info", "unchanged", scenes=len(files) - len(new))
        return new

    def _take(self, file: ImageFile) -> None:
        """Code a scene and add its chips, or tell why not."""
        self._stop.check()
        began = time.monotonic()
        coded = self._code(file) if self._is_as_seen(file) else None
        if coded is None:
            return
        try:
            stored = self._patiently(lambda: self._store(file, coded))
        except InputError as error:  # such as an id that another tile has
            self._skip(file, error)
            return
        if stored is None:  # the next look will tell more
            return
        self._incoming.done(file)
        if not coded.tiles:  # no fault of the scene: it may be masked as clouds from end to end
            self._report.empty += 1
            reason = f"none of its {coded.left_out:,} chips has data enough for --max-nodata"
            self._log.event("info", "skipped", scene=coded.uri, reason=reason)
            return
        self._report.indexed += 1
        seconds = time.monotonic() - began
        self._log.event(
            "info",
            "indexed",
            scene=coded.uri,
            chips=len(coded.tiles),
            left_out=coded.left_out,
            replaced=stored.replaced + stored.removed,
            seconds=seconds,
            chips_per_s=len(coded.tiles) / seconds,
        )

    def _code(self, file: ImageFile) -> CodedScene | None:
        path = self._path(file.relative)
        try:
            return code_scene(
                self._encoder,
                SceneSource(path),
                self._settings,
                uri=self._uri(file),
                batch_size=self._batch_size,
                on_progress=lambda part, chips: self._stop.check(),
            )
        except Exception as error:
            if isinstance(error, DuchError) and not isinstance(error, InputError):
                raise  # of the encoder, and so of every scene
            # Even a setting that does not fit this scene may fit the next one, and a scene that shows a mistake of ours
            # must not stand in the way of all that come after it.
            if self._is_as_seen(file):
                self._skip(file, error)
            else:
                self._tell_changed(file)
            return None

    def _store(self, file: ImageFile, coded: CodedScene) -> Appended | None:
        """Add a scene's chips; None where it has changed since, or another watch has added it."""
        if not self._is_as_seen(file):
            self._tell_changed(file)
            return None
        encoder = self._encoder
        # Not made anew: where its disk is away, the folder is empty.
        with GalleryWriter(self._gallery, fingerprint=encoder.bundle.fingerprint, n_bits=encoder.n_bits) as writer:
            if self._is_in(writer, file):
                return None
            stored = store_scene(writer, coded)
            refresh_tables(writer)
            return stored

    def _skip(self, file: ImageFile, error: Exception) -> None:
        self._incoming.done(file)
        self._report.skipped += 1
        reason = str(error) if isinstance(error, DuchError) else f"{type(error).__name__}: {one_line(error)}"
        level: Level = "warning" if isinstance(error, SceneError) else "error"
        self._log.event(level, "skipped", scene=self._uri(file), reason=reason)

    def _tell_changed(self, file: ImageFile) -> None:
        # What was moved away is its owner's business. Not Path.exists: it raises where a folder may not be entered.
        if not is_gone(self._path(file.relative)):
            self._log.event("info", "waiting", scene=self._uri(file), reason="it has changed while it was read")

    def _tell_unread(self, unread: dict[bytes, str]) -> None:
        for path in unread.keys() - self._unread.keys():
            self._log.event("warning", "waiting", folder=self._name(path), reason=unread[path])
        for path in self._unread.keys() - unread.keys():
            self._log.event("info", "resumed", folder=self._name(path))
        self._unread = unread

    def _patiently(self, write: Callable[[], _Result], *, only_lock: bool = False) -> _Result:
        return patiently(
            write,
            self._stop,
            lambda reason: self._log.event("warning", "waiting", reason=reason),
            only_lock=only_lock,
            limit=_ONCE_LIMIT if self._once else math.inf,
        )

    def _is_in(self, gallery: GalleryWriter | Catalog, file: ImageFile) -> bool:
        return is_current(gallery, self._uri(file), (file.size, file.mtime_ns), self._settings)

    def _is_as_seen(self, file: ImageFile) -> bool:
        try:
            now = os.stat(self._path(file.relative))
        except OSError:
            return False
        return (now.st_size, now.st_mtime_ns) == (file.size, file.mtime_ns)

    def _uri(self, file: ImageFile) -> str:
        return path_to_id(self._path(file.relative).relative_to(self._root))

    def _path(self, relative: bytes) -> Path:
        return self._folder / os.fsdecode(relative)

    def _name(self, relative: bytes) -> str:
        return display_path(self._path(relative))
