"""Files that a search writes its hits to: a picture, a page, GeoJSON, GeoParquet, STAC."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli_common import json_bytes
from .display import display_path
from .durable import replacing
from .errors import ConfigError, one_line
from .options import PATH

if TYPE_CHECKING:
    from .gallery import Gallery
    from .preprocess import ImageSource
    from .tile import Hit

_SUFFIXES = {
    "html": (".html", ".htm"),
    "geojson": (".geojson", ".json"),
    "geoparquet": (".parquet", ".geoparquet"),
    "stac": (".json", ".geojson"),
}
_HELP = {
    "sheet": "Draw query and hits into this picture (PNG, JPEG ...).",
    "html": "Write query and hits as one page with thumbnails and a map.",
    "geojson": "Write the hits' footprints as GeoJSON, for QGIS and others; - is stdout.",
    "geoparquet": "Write the hits as GeoParquet; needs pyarrow.",
    "stac": "Write the hits as a STAC ItemCollection; - is stdout.",
}
_TO_STDOUT = ("geojson", "stac")


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where a search writes its hits; None where it does not.

    Attributes:
        sheet: picture of query and hits.
        html: page of query and hits.
        geojson: FeatureCollection; `-` is stdout.
        geoparquet: GeoParquet.
        stac: ItemCollection; `-` is stdout.
        as_json: whether JSON goes to stdout.
    """

    sheet: Path | None = None
    html: Path | None = None
    geojson: Path | None = None
    geoparquet: Path | None = None
    stac: Path | None = None
    as_json: bool = False

    @property
    def files(self) -> dict[str, Path]:
        """Those that are written, by the name of their option."""
        return {name: path for name in _HELP if (path := getattr(self, name)) is not None and not self._is_stdout(name)}

    @property
    def uses_stdout(self) -> bool:
        """Whether stdout is taken, so that no table goes there."""
        return self.as_json or any(map(self._is_stdout, _TO_STDOUT))

    def check(self, gallery: Path, inputs: Iterable[Path]) -> None:
        """Refuse, before any work, what could not be written or would replace what is read.

        Args:
            gallery: the gallery's folder, which nothing is written into.
            inputs: files that the search reads.

        Raises:
            ConfigError: a name of another kind of file, a folder that is not there, a file that is needed, two that
                are one.
            OSError: a folder that cannot be written to.
            MissingPackageError: pyarrow is not installed, which GeoParquet needs.
        """
        on_stdout = [f"--{name} -" for name in _TO_STDOUT if self._is_stdout(name)] + ["--json"] * self.as_json
        if len(on_stdout) > 1:
            raise ConfigError(f"{' and '.join(on_stdout)} both write to stdout; wanted a file for one of them")
        if on_stdout and sys.stdout is None:  # as Python has it where the shell closed it
            raise ConfigError(f"{on_stdout[0]} writes to stdout, which is closed; wanted it open, or a file")
        read = [path for path in inputs if path.exists()]
        taken: dict[Path, str] = {}
        for name, path in self.files.items():
            _check_suffix(name, path)
            check_out(path, gallery)
            if path.exists() and any(path.samefile(other) for other in read):
                raise ConfigError(
                    f"{display_path(path)} is read by the search, and --{name} would replace it; wanted another file"
                )
            if (other := taken.setdefault(path.resolve(), name)) != name:
                raise ConfigError(f"--{other} and --{name} both write {display_path(path)}; wanted two files")
        if self.geoparquet is not None:
            from .exchange_parquet import pyarrow

            pyarrow()

    def check_sheet(self, gallery: Gallery, root: Path | None) -> None:
        """Refuse to draw over an image or a scene of the gallery. No other output has the name of one.

        Args:
            gallery: what is searched.
            root: folder of its image files; None if it is not known.

        Raises:
            ConfigError: the sheet would replace one of them.
        """
        if self.sheet is None or root is None or not self.sheet.exists():
            return
        from .filters import Filters
        from .ids import path_to_place
        from .where import Comparison

        uri = path_to_place(self.sheet, root) or ""
        if gallery.count(filters=Filters(where=Comparison("uri", "=", uri))):
            raise ConfigError(
                f"{display_path(self.sheet)} is a file of the gallery, and --sheet would replace it; wanted another one"
            )

    def write(self, query: str | ImageSource, hits: Sequence[Hit], *, fingerprint: str, n_bits: int) -> None:
        """Write all of them; each takes the place of an older file once it is whole.

        Args:
            query: what stands for the query in a picture.
            hits: what was found.
            fingerprint: of the bundle.
            n_bits: length of the codes.

        Raises:
            ConfigError: a picture that its format cannot hold.
            OSError: a file cannot be written.
        """
        if self.sheet is not None:
            _draw(self.sheet, query, hits)
        if self.html is not None:
            from .html_page import html_page

            _write(self.html, html_page(query, hits).encode())
        if self.geojson is not None:
            from .geojson import feature_collection

            _write(self.geojson, json_bytes(feature_collection(hits), indent=None))
        if self.geoparquet is not None:
            from .geoparquet import write_geoparquet

            write_geoparquet(self.geoparquet, hits)
        if self.stac is not None:
            from .stac_items import item_collection

            folder = None if self._is_stdout("stac") else self.stac.parent
            items = item_collection(hits, fingerprint=fingerprint, n_bits=n_bits, folder=folder)
            _write(self.stac, json_bytes(items, indent=None))
        for path in self.files.values():
            click.echo(f"wrote {display_path(path)}", err=True)

    def _is_stdout(self, name: str) -> bool:
        return name in _TO_STDOUT and str(getattr(self, name)) == "-"


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --sheet, --html, --geojson, --geoparquet, --stac and --json: `outputs`."""

    @wraps(command)
    def with_outputs(*arguments: Any, as_json: bool, **options: Any) -> Any:
        files = {name: options.pop(name) for name in _HELP}
        return command(*arguments, outputs=Outputs(**files, as_json=as_json), **options)

    with_outputs = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(with_outputs)
    for name in reversed(_HELP):
        with_outputs = click.option(f"--{name}", type=PATH, metavar="FILE", help=_HELP[name])(with_outputs)
    return with_outputs


def _check_suffix(name: str, path: Path) -> None:
    shown, suffix = display_path(path), path.suffix.lower()
    if name == "sheet":
        from PIL import Image

        Image.init()
        if Image.EXTENSION.get(suffix) not in Image.SAVE:
            raise ConfigError(
                f"{shown} ends in {path.suffix!r}, no picture format that is written; wanted .png or .jpg"
            )
    elif suffix not in _SUFFIXES[name]:
        raise ConfigError(f"{shown} ends in {path.suffix!r}; wanted {' or '.join(_SUFFIXES[name])} for --{name}")


def check_out(path: Path, gallery: Path | None) -> None:
    """Refuse a file that could not be written, or that would lie inside the gallery.

    Raises:
        ConfigError: its folder is not there, it is a folder, or inside the gallery.
        PermissionError: its folder cannot be written to.
    """
    if not path.parent.is_dir():
        raise ConfigError(
            f"folder {display_path(path.parent)} does not exist, so {display_path(path)} cannot be written there"
        )
    if path.is_dir():
        raise ConfigError(f"{display_path(path)} is a folder; wanted a file")
    if path.exists() and not path.is_file():
        return  # such as /dev/stdout, which is written to and not replaced
    folder = path.resolve().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(folder))
    if gallery is not None and path.resolve().is_relative_to(gallery.resolve()):
        raise ConfigError(f"{display_path(path)} is inside the gallery; wanted a file elsewhere")


def _write(path: Path, content: bytes) -> None:
    if str(path) == "-":
        click.echo(content)
        return
    with replacing(path) as file:
        file.write(content)


def _draw(path: Path, query: str | ImageSource, hits: Sequence[Hit]) -> None:
    from PIL import Image

    from .sheet import contact_sheet

    sheet = contact_sheet(query, hits)
    with replacing(path) as file:
        try:
            sheet.save(file, Image.EXTENSION[path.suffix.lower()])
        except Exception as error:  # what a format cannot hold, its writer says in its own way
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ConfigError(f"{display_path(path)} cannot be drawn: {one_line(error)}; wanted .png") from error
