"""The command `duch`. The edge's commands are here; heavy packages add theirs by the entry points `duch.commands`.

Results go to stdout, progress and errors to stderr. A bad input is one line and exit code 1, an interrupt is 130.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import ConfigError, DuchError, InputError

if TYPE_CHECKING:
    from .ingest import IngestReport
    from .retriever import Retriever
    from .tile import Hit

_PATH = click.Path(path_type=Path)
_SHOWN_SKIPS = 20


class _Failure(click.ClickException):
    """One line on stderr, exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"duch: {' '.join(self.message.split())}", err=True)


class _Commands(click.Group):
    """The edge's commands, and those of other packages, which are imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *sorted(point.name for point in entry_points(group="duch.commands"))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        for point in entry_points(group="duch.commands", name=cmd_name):
            command: click.Command = point.load()
            return command
        return None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DuchError as error:
            raise _Failure(str(error)) from error
        except KeyboardInterrupt:
            click.echo("\nduch: interrupted", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            raise  # the reader of stdout has gone: click ends quietly
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise _Failure(f"{where}{error.strerror or error}") from error
        except MemoryError as error:
            raise _Failure("out of memory; use a smaller batch or a smaller input") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("duch"), prog_name="duch")
def main() -> None:
    """Find satellite image tiles by a sentence or by another tile.

    On the edge: encode, index, search. On the workstation: scenes, train, evaluate, export.
    """
    # Such images are refused with a line of our own.
    warnings.filterwarnings("ignore", message="Image size .* could be decompression bomb")


@main.command()
@click.argument("bundle", type=_PATH)
@click.option("--text", "texts", multiple=True, help="A sentence; may be given again.")
@click.option("--image", "images", multiple=True, type=_PATH, help="An image file; may be given again.")
@click.option("--npy", type=_PATH, help="Write the packed codes, uint8 (n, n_bits / 8), to this file instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def encode(bundle: Path, texts: tuple[str, ...], images: tuple[Path, ...], npy: Path | None, *, as_json: bool) -> None:
    """Print the codes of sentences and images, in hexadecimal, sentences first."""
    import numpy as np

    from .encoder import Encoder

    if not texts and not images:
        raise InputError("nothing to encode; wanted --text or --image")
    encoder = Encoder(bundle)
    codes = np.concatenate([encoder.encode_texts(texts), encoder.encode_images(images)])
    names = [*texts, *map(os.fspath, images)]
    if npy:
        with open(npy, "wb") as file:  # np.save would add a suffix to a path
            np.save(file, codes, allow_pickle=False)
        click.echo(f"wrote {len(codes)} codes of {encoder.n_bits} bits to {npy}", err=True)
    elif as_json:
        rows = [{"input": name, "code": code.tobytes().hex()} for name, code in zip(names, codes, strict=True)]
        _print_json({"n_bits": encoder.n_bits, "fingerprint": encoder.bundle.fingerprint, "codes": rows})
    else:
        for name, code in zip(names, codes, strict=True):
            click.echo(f"{code.tobytes().hex()}  {_printable(name)}")


@main.command()
@click.argument("bundle", type=_PATH)
@click.argument("folders", type=_PATH, nargs=-1, required=True, metavar="[IMAGES] GALLERY")
@click.option("--texts", type=_PATH, help='JSONL file of sentences to code: a line is {"text": ..., "id": ...}.')
@click.option("--root", type=_PATH, help="Folder that tile ids are relative to; by default IMAGES.")
@click.option("--prune", is_flag=True, help="Take out tiles whose files are gone.")
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1), help="Images coded at once.")
@click.option("--threads", default=0, show_default=True, type=click.IntRange(0), help="0: one per core.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def index(
    bundle: Path,
    folders: tuple[Path, ...],
    texts: Path | None,
    root: Path | None,
    batch_size: int,
    threads: int,
    *,
    prune: bool,
    as_json: bool,
) -> None:
    """Code the images below IMAGES, or the sentences of --texts, into GALLERY.

    Run it again to add what is new and to replace what has changed. What was coded before an interrupt is kept.
    """
    from .encoder import Encoder
    from .ingest import index_images, index_texts

    if len(folders) > 2 or (len(folders) == 1 and texts is None):
        raise InputError(
            f"got {len(folders)} folders after BUNDLE; wanted IMAGES GALLERY, or GALLERY with --texts FILE"
        )
    gallery = folders[-1]
    encoder = Encoder(bundle, threads=threads)
    reports = []
    if len(folders) == 2:
        with _bar("coding images") as on_progress:
            reports.append(
                index_images(
                    encoder,
                    folders[0],
                    gallery,
                    root=root,
                    prune=prune,
                    batch_size=batch_size,
                    on_progress=on_progress,
                )
            )
    if texts is not None:
        with _bar("coding sentences") as on_progress:
            reports.append(index_texts(encoder, texts, gallery, batch_size=batch_size, on_progress=on_progress))
    _report(gallery, reports, as_json=as_json)


def _report(gallery: Path, reports: list[IngestReport], *, as_json: bool) -> None:
    counts = {
        name: sum(getattr(report, name) for report in reports)
        for name in ("added", "replaced", "unchanged", "removed", "missing", "ignored")
    }
    skipped = [entry for report in reports for entry in report.skipped]
    if as_json:
        _print_json({"gallery": os.fspath(gallery), **counts, "skipped": [list(entry) for entry in skipped]})
        return
    for name, reason in skipped[:_SHOWN_SKIPS]:
        click.echo(f"skipped {_printable(name)}: {_printable(reason)}", err=True)
    if len(skipped) > _SHOWN_SKIPS:
        click.echo(f"skipped {len(skipped) - _SHOWN_SKIPS} more; --json lists all", err=True)
    told = {**counts, "skipped": len(skipped)}
    always = ("added", "unchanged")
    click.echo(f"{gallery}: " + ", ".join(f"{n} {name}" for name, n in told.items() if n or name in always))


@main.command()
@click.argument("gallery", type=_PATH)
@click.argument("words", required=False)
@click.option("--image", type=_PATH, help="Search with this image instead of words.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1), help="How many hits.")
@click.option(
    "--in",
    "modality",
    type=click.Choice(["image", "text"]),
    help="Find only images or only sentences; by default images, or sentences where there are no images.",
)
@click.option("--bundle", type=_PATH, help="The bundle; by default DUCH_BUNDLE, else the one the gallery remembers.")
@click.option("--root", type=_PATH, help="Folder of the image files; by default the one the gallery remembers.")
@click.option("--sheet", type=_PATH, help="Draw query and hits into this picture (PNG, JPEG ...).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def search(
    gallery: Path,
    words: str | None,
    image: Path | None,
    k: int,
    modality: Any,
    bundle: Path | None,
    root: Path | None,
    sheet: Path | None,
    *,
    as_json: bool,
) -> None:
    """Find the tiles of GALLERY nearest to WORDS, or to an image."""
    from .retriever import Retriever

    if (words is None) == (image is None):
        raise InputError("wanted either words or --image, and one of them only")
    if sheet is not None:
        _check_picture(sheet)
    with Retriever(gallery, bundle, root=root) as retriever:
        if len(retriever.gallery) == 0:
            raise InputError(f"{gallery} holds no tiles; add some with `duch index`")
        modality = modality or _default_modality(retriever)
        if retriever.gallery.count(modality) == 0:
            raise InputError(f"{gallery} holds no {modality}s; search without --in {modality}")
        encode = retriever.encoder.encode_texts if image is None else retriever.encoder.encode_images
        if words is not None:
            _warn_of_unknown_words(retriever, words)
        query: Any = words if image is None else image
        started = time.perf_counter()
        codes = encode([query])
        coded = time.perf_counter()
        hits = retriever.search_codes(codes, k, modality=modality)[0]
        done = time.perf_counter()
        times = {"encode_ms": 1e3 * (coded - started), "search_ms": 1e3 * (done - coded)}
        n_tiles = len(retriever.gallery)
    if sheet is not None:
        from .sheet import contact_sheet

        contact_sheet(query, hits).save(sheet)
        click.echo(f"drew {sheet}", err=True)
    if as_json:
        rounded = {name: round(value, 3) for name, value in times.items()}
        _print_json({"query": os.fspath(query), "n_tiles": n_tiles, **rounded, "hits": [_hit(hit) for hit in hits]})
        return
    click.echo(f"{'rank':>4} {'distance':>8}  id")
    for hit in hits:
        text = f"  {_printable(hit.text)}" if hit.text else ""
        click.echo(f"{hit.rank:>4} {hit.distance:>8}  {_printable(hit.id)}{text}")
    click.echo(
        f"{len(hits)} of {n_tiles:,} tiles; {times['encode_ms']:.1f} ms to load the model and code the query, "
        f"{times['search_ms']:.1f} ms to search",
        err=True,
    )


def _default_modality(retriever: Retriever) -> str:
    """Images if there are any: a sentence is nearer to sentences than to any image, and would find little else."""
    return "image" if retriever.gallery.count("image") else "text"


def _warn_of_unknown_words(retriever: Retriever, words: str) -> None:
    unknown = retriever.encoder.unknown_words(words)
    if unknown:
        click.echo(f"the model has no way to spell {', '.join(map(repr, unknown))}, and does not see it", err=True)


def _check_picture(path: Path) -> None:
    from PIL import Image

    Image.init()
    if path.suffix.lower() not in Image.EXTENSION:
        raise ConfigError(f"{path} ends in {path.suffix!r}, no picture format that is known; wanted .png or .jpg")
    if not path.parent.is_dir():
        raise ConfigError(f"folder {path.parent} does not exist, so {path.name} cannot be drawn there")


def _hit(hit: Hit) -> dict[str, Any]:
    values = asdict(hit)
    values["path"] = None if hit.path is None else os.fspath(hit.path)
    return {name: value for name, value in values.items() if value not in (None, {})}


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, for callbacks of (done, total); without a terminal, one line at the end."""
    state: dict[str, Any] = {}

    def advance(done: int, total: int) -> None:
        if "bar" not in state:
            state["bar"] = click.progressbar(length=total, label=title, file=sys.stderr, show_pos=True).__enter__()
            state["done"] = 0
        state["bar"].update(done - state["done"])
        state["done"] = done

    try:
        yield advance
    finally:
        if "bar" in state:
            state["bar"].__exit__(None, None, None)


def _printable(text: str) -> str:
    """Text on one line, whatever a file name or caption holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
