"""A gallery whose codes and values follow from each tile's id and version, and what is left of it after a fault."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from duch.catalog import is_gallery
from duch.gallery import Gallery, GalleryWriter, Tile
from duch.verify import verify

FINGERPRINT = "5a" * 32
View = dict[str, int]  # version by id


def code_of(name: str, version: int) -> bytes:
    return hashlib.blake2b(f"{name} {version}".encode(), digest_size=8).digest()


def tile_of(name: str, version: int) -> Tile:
    return Tile(
        id=name,
        modality="text" if name.startswith("t") else "image",
        footprint=None if version % 3 == 0 else (version, -1, version + 1, 1),
        time_us=version,
        attributes={"version": version},
    )


def writer(folder: Path, **more: Any) -> GalleryWriter:
    return Gallery.writer(folder, fingerprint=FINGERPRINT, n_bits=64, **{"create": True, **more})


def put(out: GalleryWriter, tiles: Mapping[str, int], remove: Sequence[str] = ()) -> None:
    """Append tiles, or replace older versions of them; and take others out with the same commit."""
    codes = np.frombuffer(b"".join(code_of(*item) for item in tiles.items()), dtype=np.uint8).reshape(-1, 8)
    out.append(codes, [tile_of(*item) for item in tiles.items()], remove=remove)


def view_of(gallery: Gallery) -> View:
    """What a reader finds. A code or value that its id and version do not have is an AssertionError."""
    hits = gallery.search(np.zeros((1, 8), dtype=np.uint8), max(1, len(gallery)))[0]
    assert len(hits) == len(gallery), f"{len(hits)} hits of {len(gallery)} tiles"
    hits.sort(key=lambda hit: hit.seq)
    rows = gallery.columns.rows_of([hit.seq for hit in hits])
    view = {}
    for hit, code in zip(hits, gallery.codes[rows], strict=True):
        version = view[hit.id] = int(hit.attributes["version"])
        expected = tile_of(hit.id, version)
        assert code.tobytes() == code_of(hit.id, version), f"{hit.id} has a wrong code"
        for name in ("modality", "footprint", "time_us", "attributes"):
            assert getattr(hit, name) == getattr(expected, name), f"{hit.id} has a wrong {name}"
    assert len(view) == len(hits), "an id was found twice"
    return view


def view(folder: Path) -> View:
    with Gallery.open(folder) as gallery:
        return view_of(gallery)


def check(folder: Path, allowed: Sequence[View | None]) -> View | None:
    """After a fault: the gallery opens and is one of these (None: not there yet), and the next writer leaves it whole.

    Returns which one it was.
    """
    found = view(folder) if is_gallery(folder) else None
    assert found in allowed, f"found {_told(found)}; wanted {' or '.join(map(_told, allowed))}"
    with writer(folder, create=found is None) as out:
        put(out, {"the next": 1})
    assert view(folder) == (found or {}) | {"the next": 1}
    check_whole(folder)
    return found


def check_whole(folder: Path) -> None:
    """Nothing is wrong with the gallery."""
    problems = verify(folder).problems
    assert not problems, str(problems[0])


def check_tidy(folder: Path) -> None:
    """A writer who comes by when no reader is there leaves the files of the current generation, and no log."""
    check_whole(folder)
    Gallery.writer(folder).close()
    names = sorted(re.sub(r"\d+", "N", path.name) for path in folder.iterdir())
    if "catalog.sqlite.partial-journal" in names:  # SQLite does not mind that it could not delete it, nor do we
        names.remove("catalog.sqlite.partial-journal")
    assert names == ["catalog.sqlite", "codes-N.bin", "columns-N.bin", "writer.lock"], names


def _told(view: View | None) -> str:
    return "no gallery" if view is None else f"{len(view)} tiles {sorted(view.items())[-3:]}"
