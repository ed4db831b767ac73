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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .display import display_path, printable
from .errors import ConfigError, DuchError, InputError, one_line
from .options import PATH, provider_options
from .providers import ProviderFallbackWarning

if TYPE_CHECKING:
    from .ingest import IngestReport
    from .retriever import Retriever
    from .tile import Hit

# More would be a slip of the keyboard.
_MOST_HITS, _MOST_IN_A_BATCH = 1_000_000, 65_536
_SHOWN_SKIPS = 20


class _Failure(click.ClickException):
    """One line on stderr, exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"duch: {printable(' '.join(self.message.split()))}", err=True)


class _Commands(click.Group):
    """The edge's commands, and those of other packages, which are imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from importlib.metadata import entry_points

        return [*super().list_commands(ctx), *sorted(point.name for point in entry_points(group="duch.commands"))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        # Imported late: it takes as long as all of numpy's C code, and the edge's own commands do without it.
        from importlib.metadata import entry_points

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
            named = isinstance(error.filename, str | bytes | os.PathLike)
            where = f"{display_path(error.filename)}: " if named else ""
            raise _Failure(f"{where}{error.strerror or error}") from error
        except MemoryError as error:
            raise _Failure("out of memory; use a smaller batch or a smaller input") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="duch", prog_name="duch")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Find satellite image tiles by a sentence or by another tile.

    On the edge: encode, index, search. On the workstation: scenes, train, evaluate, export.
    """
    ctx.with_resource(warnings.catch_warnings())
    # What Pillow warns of (truncated files, decompression bombs) is refused with a line of our own.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    _show_fallbacks_as_lines()


def _show_fallbacks_as_lines() -> None:
    show_any = warnings.showwarning
    told = set()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, ProviderFallbackWarning):
            show_any(message, category, *where, **more)
        elif str(message) not in told:
            told.add(str(message))
            click.echo(f"duch: {message}", err=True)

    warnings.filterwarnings("always", category=ProviderFallbackWarning)
    warnings.showwarning = show


_expect_fingerprint = click.option("--expect-fingerprint", metavar="HEX", help="Refuse any bundle but this one.")


@main.command()
@click.argument("bundle", type=PATH)
@click.option("--text", "texts", multiple=True, help="A sentence; may be given again.")
@click.option("--image", "images", multiple=True, type=PATH, help="An image file; may be given again.")
@click.option("--npy", type=PATH, help="Write the packed codes, uint8 (n, n_bits / 8), to this file.")
@provider_options
@_expect_fingerprint
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def encode(
    bundle: Path,
    texts: tuple[str, ...],
    images: tuple[Path, ...],
    npy: Path | None,
    providers: tuple[str, ...],
    threads: int,
    expect_fingerprint: str | None,
    *,
    allow_fallback: bool,
    as_json: bool,
) -> None:
    """Print the codes of sentences and images, in hexadecimal, sentences first."""
    import numpy as np

    from .bundle import read_bundle
    from .durable import replacing
    from .encoder import Encoder

    if not texts and not images:
        raise InputError("nothing to encode; wanted --text or --image")
    encoder = Encoder(
        read_bundle(bundle, expect_fingerprint=expect_fingerprint),
        providers=providers,
        allow_fallback=allow_fallback,
        threads=threads,
    )
    codes = np.concatenate([encoder.encode_texts(texts), encoder.encode_images(images)])
    names: list[str | Path] = [*texts, *images]
    if npy is not None:
        with replacing(npy) as file:
            np.save(file, codes, allow_pickle=False)
        click.echo(f"wrote {len(codes)} codes of {encoder.n_bits} bits to {display_path(npy)}", err=True)
    if as_json:
        rows = [{"input": name, "code": code.tobytes().hex()} for name, code in zip(names, codes, strict=True)]
        _print_json({"n_bits": encoder.n_bits, "fingerprint": encoder.bundle.fingerprint, "codes": rows})
    elif npy is None:
        for name, code in zip(names, codes, strict=True):
            click.echo(f"{code.tobytes().hex()}  {printable(name) if isinstance(name, str) else display_path(name)}")


@main.command()
@click.argument("bundle", type=PATH)
@click.argument("folders", type=PATH, nargs=-1, required=True, metavar="[IMAGES] GALLERY")
@click.option("--texts", type=PATH, help='JSONL file of sentences to code: a line is {"text": ..., "id": ...}.')
@click.option("--root", type=PATH, help="Folder that tile ids are relative to; by default IMAGES.")
@click.option("--prune", is_flag=True, help="Take out tiles whose files are gone.")
@click.option(
    "--batch-size",
    default=64,
    show_default=True,
    type=click.IntRange(1, _MOST_IN_A_BATCH),
    help="Images coded at once.",
)
@provider_options
@_expect_fingerprint
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def index(
    bundle: Path,
    folders: tuple[Path, ...],
    texts: Path | None,
    root: Path | None,
    batch_size: int,
    providers: tuple[str, ...],
    threads: int,
    expect_fingerprint: str | None,
    *,
    allow_fallback: bool,
    prune: bool,
    as_json: bool,
) -> None:
    """Code the images below IMAGES, or the sentences of --texts, into GALLERY.

    Run it again to add what is new and to replace what has changed. What was coded before an interrupt is kept.
    """
    from .bundle import read_bundle
    from .encoder import Encoder
    from .ingest import index_images, index_texts

    if len(folders) > 2 or (len(folders) == 1 and texts is None):
        raise InputError(
            f"got {len(folders)} folders after BUNDLE; wanted IMAGES GALLERY, or GALLERY with --texts FILE"
        )
    gallery = folders[-1]
    encoder = Encoder(
        read_bundle(bundle, expect_fingerprint=expect_fingerprint),
        providers=providers,
        allow_fallback=allow_fallback,
        threads=threads,
    )
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
        _print_json({"gallery": gallery, **counts, "skipped": [list(entry) for entry in skipped]})
        return
    for name, reason in skipped[:_SHOWN_SKIPS]:
        click.echo(f"skipped {printable(name)}: {printable(reason)}", err=True)
    if len(skipped) > _SHOWN_SKIPS:
        click.echo(f"skipped {len(skipped) - _SHOWN_SKIPS} more; --json lists all", err=True)
    told = {**counts, "skipped": len(skipped)}
    always = ("added", "unchanged")
    click.echo(
        f"{display_path(gallery)}: " + ", ".join(f"{n} {name}" for name, n in told.items() if n or name in always)
    )
    if counts["missing"]:
        click.echo("missing tiles are still found; take them out with --prune", err=True)


@main.command()
@click.argument("gallery", type=PATH)
@click.argument("words", required=False)
@click.option("--image", type=PATH, help="Search with this image instead of words.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, _MOST_HITS), help="How many hits.")
@click.option(
    "--in",
    "modality",
    type=click.Choice(["image", "text"]),
    help="Find only images or only sentences; by default images, or sentences where there are no images.",
)
@click.option("--bundle", type=PATH, help="The bundle; by default DUCH_BUNDLE, else the one the gallery remembers.")
@click.option("--root", type=PATH, help="Folder of the image files; by default the one the gallery remembers.")
@click.option("--sheet", type=PATH, help="Draw query and hits into this picture (PNG, JPEG ...).")
@provider_options
@_expect_fingerprint
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
    providers: tuple[str, ...],
    threads: int,
    expect_fingerprint: str | None,
    *,
    allow_fallback: bool,
    as_json: bool,
) -> None:
    """Find the tiles of GALLERY nearest to WORDS, or to an image."""
    from .bundle import read_bundle
    from .gallery import Gallery
    from .retriever import Retriever, find_bundle

    if (words is None) == (image is None):
        raise InputError("wanted either words or --image, and one of them only")
    if sheet is not None:
        _check_picture(sheet, image)
    query: Any = words if image is None else image
    with Gallery.open(gallery) as opened:
        made_by = read_bundle(bundle or find_bundle(opened), expect_fingerprint=expect_fingerprint)
        retriever = Retriever(
            opened, made_by, root=root, providers=providers, allow_fallback=allow_fallback, threads=threads
        )
        if len(opened) == 0:
            raise InputError(f"{display_path(gallery)} holds no tiles; add some with `duch index`")
        modality = modality or retriever.modality
        if opened.count(modality) == 0:
            raise InputError(f"{display_path(gallery)} holds no {modality}s; search without --in {modality}")
        started = time.perf_counter()
        encode = retriever.encoder.encode_texts if image is None else retriever.encoder.encode_images
        codes = encode([query])
        coded = time.perf_counter()
        hits = retriever.search_codes(codes, k, modality=modality)[0]
        done = time.perf_counter()
        if words is not None:
            _warn_of_unknown_words(retriever, words)
        times = {"encode_ms": 1e3 * (coded - started), "search_ms": 1e3 * (done - coded)}
        n_tiles = len(opened)
    if sheet is not None:
        _draw(sheet, query, hits)
    if as_json:
        rounded = {name: round(value, 3) for name, value in times.items()}
        _print_json({"query": query, "n_tiles": n_tiles, **rounded, "hits": [_hit(hit) for hit in hits]})
        return
    click.echo(f"{'rank':>4} {'distance':>8}  id")
    for hit in hits:
        text = f"  {printable(hit.text)}" if hit.text else ""
        click.echo(f"{hit.rank:>4} {hit.distance:>8}  {printable(hit.id)}{text}")
    click.echo(
        f"{len(hits)} of {n_tiles:,} tiles; {times['encode_ms']:.1f} ms to load the model and code the query, "
        f"{times['search_ms']:.1f} ms to search",
        err=True,
    )


def _warn_of_unknown_words(retriever: Retriever, words: str) -> None:
    unknown = retriever.encoder.unknown_words(words)
    if unknown:
        click.echo(f"the model has no way to spell {', '.join(map(repr, unknown))}, and does not see it", err=True)


def _check_picture(path: Path, query: Path | None) -> None:
    from PIL import Image

    Image.init()
    name = display_path(path)
    if Image.EXTENSION.get(path.suffix.lower()) not in Image.SAVE:
        raise ConfigError(f"{name} ends in {path.suffix!r}, no picture format that is written; wanted .png or .jpg")
    if not path.parent.is_dir():
        raise ConfigError(f"folder {display_path(path.parent)} does not exist, so {name} cannot be drawn there")
    if query is not None and path.exists() and query.exists() and path.samefile(query):
        raise ConfigError(f"{name} is the image of the query, which the sheet would replace; wanted another file")


def _draw(path: Path, query: Any, hits: list[Hit]) -> None:
    from PIL import Image

    from .durable import replacing
    from .sheet import contact_sheet

    sheet = contact_sheet(query, hits)
    with replacing(path) as file:
        try:
            sheet.save(file, Image.EXTENSION[path.suffix.lower()])
        except OSError:
            raise
        except Exception as error:  # what a format cannot hold, its writer says in its own way
            raise ConfigError(f"{display_path(path)} cannot be drawn: {one_line(error)}; wanted .png") from error
    click.echo(f"drew {display_path(path)}", err=True)


def _hit(hit: Hit) -> dict[str, Any]:
    return {name: value for name, value in asdict(hit).items() if value not in (None, {})}


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


def _print_json(value: Any) -> None:
    """UTF-8, whatever the locale; bytes of a path that are none are written as \\xff."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_path_text)
    click.echo(text.encode("utf-8"))


def _path_text(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
