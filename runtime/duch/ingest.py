"""Images or sentences into a gallery, in batches that are safe as soon as they are coded.

Run again, an ingest codes only what is new or changed, so one that was interrupted simply goes on.

Shapes: n tiles of a batch.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .codes import PackedCodes
from .decode import decode_ahead
from .display import display_path
from .errors import InputError, TextError
from .gallery_writer import GalleryWriter
from .ids import id_to_path, path_to_id, window_of
from .ingest_place import check_batch_size, is_gone, open_writer, settle_root, wanted_root_of
from .optimize import refresh_tables
from .progress import Progress
from .sources import IMAGE_SUFFIXES, ImageFile, Sentence, find_images, read_sentences
from .tile import Tile, attributes_to_json

if TYPE_CHECKING:
    from .encoder import Encoder


@dataclass
class IngestReport:
    """What an ingest did.

    Attributes:
        added: new tiles.
        replaced: tiles whose file or sentence has changed since.
        unchanged: tiles that were in the gallery as they are.
        removed: tiles of files that are gone, taken out by `prune`.
        missing: tiles of files that are gone, kept.
        ignored: files that are no images by their suffix.
        skipped: what could not be used, as (name, reason).
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    removed: int = 0
    missing: int = 0
    ignored: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


def index_images(
    encoder: Encoder,
    images_folder: str | os.PathLike[str],
    gallery_folder: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    prune: bool = False,
    batch_size: int = 64,
    on_progress: Progress | None = None,
) -> IngestReport:
    """Code the images of a folder tree into a gallery, which is made if it is not there.

    The id of a tile is its path relative to the root. A file of the same size and mtime_ns as its tile is not read
    again; a changed one is coded anew and keeps the footprint, time and attributes that its tile was given. Unreadable
    files are skipped and reported. An interrupt loses at most the batch that is being coded.

    Args:
        encoder: makes the codes.
        images_folder: searched with its subfolders, and links to folders; no folder twice.
        gallery_folder: the gallery.
        root: folder that ids are relative to; by default the gallery's own, and `images_folder` for a new gallery.
            A gallery that holds images takes another root only if its own is gone: the images have moved.
        prune: take out tiles whose files are gone from `images_folder`; by default they are kept and counted.
        batch_size: images coded and made safe at once.
        on_progress: called after every file.

    Raises:
        InputError: no such folder, no image in it, it is outside the root, or the gallery has another root.
        GalleryError: the gallery cannot be written, or belongs to another bundle.
    """
    folder, name = Path(os.path.realpath(images_folder)), display_path(images_folder)
    if not folder.is_dir():
        raise InputError(f"{name} {'is a file' if folder.exists() else 'does not exist'}; wanted a folder of images")
    wanted_root = wanted_root_of(folder, root)
    check_batch_size(batch_size)
    found = find_images(folder)
    if b"" in found.unread:
        raise InputError(f"{name} {found.skipped[0][1]}; wanted a folder of images")
    if not found.files and not found.skipped:
        raise InputError(
            f"{name} holds no images and {found.ignored} other files; wanted {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    encoder.load("image")  # what is wrong with it shall leave no empty gallery behind
    with open_writer(encoder, gallery_folder) as writer:
        base = settle_root(writer, folder, wanted_root)
        prefix = folder.relative_to(base)
        writer.remember(root=base)
        report = IngestReport(
            ignored=found.ignored,
            skipped=[(path_to_id(prefix / os.fsdecode(path)), reason) for path, reason in found.skipped],
        )
        progress = _Counter(len(found.files), on_progress)
        # One at a time: a tile takes 300 bytes, and there may be millions.
        tiles = (_image_tile(file, prefix) for file in found.files)
        wanted = _new_or_changed(tiles, writer, report, progress)
        with closing(_coded(encoder, base, wanted, batch_size, report, progress)) as coded:
            for batch, codes in coded:
                _append(writer, codes, batch, report)
                progress.advance(len(batch))
        known = {file.relative for file in found.files}
        # Nothing is known of what lies below these, so it is not gone.
        unread = {folder / os.fsdecode(path) for path in found.unread}
        gone = []
        for tile_id, uri in writer.live_images():
            if window_of(tile_id, uri) is not None:
                continue  # a chip: its scene is for `duch index --chip` to look for
            path = base / id_to_path(tile_id)
            if not path.is_relative_to(folder) or not unread.isdisjoint(path.parents):
                continue
            if os.fsencode(path.relative_to(folder)) not in known and is_gone(path):
                gone.append(tile_id)
        if prune:
            report.removed = writer.remove(gone)
        else:
            report.missing = len(gone)
        refresh_tables(writer)
    return report


def index_texts(
    encoder: Encoder,
    jsonl_file: str | os.PathLike[str],
    gallery_folder: str | os.PathLike[str],
    *,
    batch_size: int = 64,
    on_progress: Progress | None = None,
) -> IngestReport:
    """Code sentences into a gallery, which is made if it is not there.

    Each line of the file is a JSON object with `text`, optionally `id` (by default `text:<line number>`), and anything
    else, which becomes the tile's attributes. Bad lines are skipped and reported with their number.

    Args:
        encoder: makes the codes.
        jsonl_file: one JSON object a line, UTF-8. Blank lines are passed over.
        gallery_folder: the gallery.
        batch_size: sentences coded and made safe at once.
        on_progress: called after every sentence.

    Raises:
        InputError: no such file, or no usable line in it.
        GalleryError: the gallery cannot be written, or belongs to another bundle.
    """
    check_batch_size(batch_size)
    lines, skipped = read_sentences(Path(jsonl_file))
    report = IngestReport(skipped=skipped)
    if not lines:
        why = ": " + " ".join(skipped[0]) if skipped else ""
        raise InputError(f"{display_path(jsonl_file)} holds no usable sentence{why}")
    encoder.load("text")  # what is wrong with it shall leave no empty gallery behind
    with open_writer(encoder, gallery_folder) as writer:
        progress = _Counter(len(lines), on_progress)
        pending = iter(lines)
        while batch := list(islice(pending, batch_size)):
            wanted = [sentence for sentence in batch if _is_wanted(sentence, writer, report)]
            tiles, codes = _code_sentences(encoder, wanted, report)
            _append(writer, codes, tiles, report)
            progress.advance(len(batch))
        refresh_tables(writer)
    return report


class _Counter:
    def __init__(self, total: int, report: Progress | None) -> None:
        self._done, self._total, self._report = 0, total, report

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        if self._report is not None:
            self._report(self._done, self._total)


def _append(writer: GalleryWriter, codes: PackedCodes, tiles: list[Tile], report: IngestReport) -> None:
    replaced = writer.append(codes, tiles).replaced
    report.replaced += replaced
    report.added += len(tiles) - replaced


def _image_tile(file: ImageFile, prefix: Path) -> Tile:
    tile_id = path_to_id(prefix / os.fsdecode(file.relative))
    return Tile(id=tile_id, modality="image", uri=tile_id, size=file.size, mtime_ns=file.mtime_ns)


def _new_or_changed(
    tiles: Iterable[Tile], writer: GalleryWriter, report: IngestReport, progress: _Counter
) -> Iterator[Tile]:
    for tile in tiles:
        stored = writer.find(tile.id)
        if stored is None:
            yield tile
        elif stored.modality != "image":
            report.skipped.append((tile.id, "its id belongs to a sentence in the gallery; rename the file"))
            progress.advance()
        elif (stored.size, stored.mtime_ns) != (tile.size, tile.mtime_ns):
            # What somebody has told of the place is not in the file, and would be lost with the old tile.
            yield replace(tile, footprint=stored.footprint, time_us=stored.time_us, attributes=stored.attributes)
        else:
            report.unchanged += 1
            progress.advance()


def _coded(
    encoder: Encoder, root: Path, tiles: Iterator[Tile], batch_size: int, report: IngestReport, progress: _Counter
) -> Generator[tuple[list[Tile], PackedCodes], None, None]:
    """Yield batches with their codes; tiles whose image cannot be used go into the report."""

    def path_of(tile: Tile) -> Path:
        return root / id_to_path(tile.id)

    with decode_ahead(tiles, path_of, encoder.image, batch_size=batch_size, threads=encoder.threads) as batches:
        for batch in batches:
            report.skipped.extend((tile.id, str(error)) for tile, error in batch.failed)
            progress.advance(len(batch.failed))
            if batch.items:
                yield batch.items, encoder.encode_pixels(batch.pixels)


def _is_wanted(sentence: Sentence, writer: GalleryWriter, report: IngestReport) -> bool:
    line, tile = sentence
    stored = writer.find(tile.id)
    if stored is None:
        return True
    if stored.modality != "text":
        report.skipped.append((f"line {line}", f"has the id {tile.id!r} of an image in the gallery; wanted another"))
        return False
    # As JSON, for Python takes 1 and true for equal.
    if (stored.text, attributes_to_json(stored.attributes)) != (tile.text, attributes_to_json(tile.attributes)):
        return True
    report.unchanged += 1
    return False


def _code_sentences(encoder: Encoder, lines: list[Sentence], report: IngestReport) -> tuple[list[Tile], PackedCodes]:
    """Codes of sentences; those that the model cannot read go into the report."""
    try:
        return [tile for _, tile in lines], encoder.encode_texts([tile.text or "" for _, tile in lines])
    except TextError as error:
        if len(lines) == 1:
            report.skipped.append((f"line {lines[0].line}", str(error)))
            return [], encoder.encode_texts([])
    # One of them is at fault; alone, each finds out whether it is the one.
    parts = [_code_sentences(encoder, [line], report) for line in lines]
    return [tile for tiles, _ in parts for tile in tiles], np.concatenate([codes for _, codes in parts])
