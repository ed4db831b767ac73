"""duch gallery: the upkeep of galleries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli_common import counted, print_json, progress_bar
from .display import display_path, printable
from .errors import GalleryCorruptError, InputError
from .options import PATH, lines_of

if TYPE_CHECKING:
    from .gallery_check import Problem

_SHOWN = 20
_SHOWN_IDS = 3

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_duplicate_option = click.option(
    "--on-duplicate",
    type=click.Choice(["error", "replace"]),
    default="error",
    show_default=True,
    help="What to do with an id that comes again: refuse, or let the later tile win.",
)


@click.group()
def gallery() -> None:
    """Keep galleries in good order."""


@gallery.command(short_help="Check every byte of a gallery, and repair it.")
@click.argument("folder", type=PATH, metavar="GALLERY")
@click.option(
    "--repair", is_flag=True, help="Put right what is wrong; tiles that are damaged are taken out and listed."
)
@_json_option
def verify(folder: Path, *, repair: bool, as_json: bool) -> None:
    """Compare every code and every value of GALLERY with its checksum, also while it is written to.

    The exit code is 1 if anything is wrong.
    """
    if repair:
        _repair(folder, as_json=as_json)
        return
    from .verify import verify as check

    with progress_bar("checking tiles") as on_progress:
        report = check(folder, on_progress=on_progress)
    if as_json:
        print_json({"gallery": folder, **asdict(report)})
    else:
        _show(report.problems)
    if report.problems:
        raise GalleryCorruptError(
            f"{display_path(folder)} has {counted(len(report.problems), 'problem')}; "
            f"put right what can be with `duch gallery verify --repair`"
        )
    if not as_json:
        left = f"; leftovers {', '.join(report.leftovers)} go with the next writer" if report.leftovers else ""
        click.echo(
            f"{display_path(folder)} is whole: {counted(report.n_tiles, 'tile')} in "
            f"{counted(report.n_batches, 'batch', 'batches')}{left}"
        )


def _repair(folder: Path, *, as_json: bool) -> None:
    from .repair import repair

    with progress_bar("writing tiles") as on_progress:
        report = repair(folder, on_progress=on_progress)
    if as_json:
        print_json({"gallery": folder, **asdict(report)})
        return
    _show(report.problems)
    for tile_id in report.taken_out[:_SHOWN]:
        click.echo(f"taken out: {printable(tile_id)}")
    if len(report.taken_out) > _SHOWN:
        click.echo(f"taken out: {len(report.taken_out) - _SHOWN:,} more; --json lists all")
    if report.leftovers:
        click.echo(f"leftovers deleted: {', '.join(report.leftovers)}")
    what = f"{counted(len(report.problems), 'problem')} put right" if report.problems else "nothing was wrong"
    click.echo(f"{display_path(folder)}: {what}, {counted(len(report.taken_out), 'tile')} taken out")
    if report.taken_out:
        click.echo("run `duch index` again to code what was taken out", err=True)


@gallery.command(short_help="Give back the space of removed tiles.")
@click.argument("folder", type=PATH, metavar="GALLERY")
@_json_option
def compact(folder: Path, *, as_json: bool) -> None:
    """Give back the space of tiles that were replaced or removed. Readers go on meanwhile."""
    from .gallery import Gallery
    from .generation import leftovers
    from .optimize import build_tables, has_tables

    before = _size(folder)
    with Gallery.writer(folder) as writer:
        with progress_bar("writing tiles") as on_progress:
            had_tables = has_tables(writer)
            n_dropped = writer.compact(on_progress)
        if had_tables and not has_tables(writer):
            build_tables(writer)
        held = bool(leftovers(folder, writer.generation))
    won = before - _size(folder)
    if as_json:
        print_json({"gallery": folder, "dropped": n_dropped, "bytes_won": won, "readers_hold_the_old": held})
        return
    click.echo(f"{display_path(folder)}: {counted(n_dropped, 'removed tile')} dropped, {won:,} bytes won")
    if held:
        click.echo("a reader holds the older files; they go when it has ended and the next writer comes", err=True)


@gallery.command(short_help="Put galleries of one bundle into a new one.")
@click.argument("out", type=PATH)
@click.argument("galleries", type=PATH, nargs=-1, required=True, metavar="GALLERY...")
@_duplicate_option
@_json_option
def merge(out: Path, galleries: tuple[Path, ...], on_duplicate: Any, *, as_json: bool) -> None:
    """Put the tiles of galleries of one bundle into a new gallery OUT, in the order given.

    Where the galleries' images lie in different folders, ids become relative to the folder that holds all of them.
    """
    from .merge import merge as merge_galleries

    with progress_bar("merging tiles") as on_progress:
        report = merge_galleries(out, galleries, on_duplicate=on_duplicate, on_progress=on_progress)
    if as_json:
        print_json({"gallery": out, **asdict(report)})
        return
    replaced = f", {report.replaced:,} replaced by a later one" if report.replaced else ""
    click.echo(f"{display_path(out)}: {counted(report.n_tiles, 'tile')}{replaced}")


@gallery.command(name="export", short_help="Write a gallery as Parquet, or as CSV and NPY.")
@click.argument("folder", type=PATH, metavar="GALLERY")
@click.argument("out", type=PATH)
@_json_option
def export_command(folder: Path, out: Path, *, as_json: bool) -> None:
    """Write the tiles of GALLERY and their codes to OUT: a file that ends in .parquet, or a folder with CSV and NPY."""
    from .gallery_export import export_gallery

    with progress_bar("exporting tiles") as on_progress:
        n_tiles = export_gallery(folder, out, on_progress=on_progress)
    if as_json:
        print_json({"export": out, "n_tiles": n_tiles})
        return
    click.echo(f"{display_path(out)}: {counted(n_tiles, 'tile')}")


@gallery.command(name="import", short_help="Add what `duch gallery export` wrote.")
@click.argument("sources", type=PATH, nargs=-1, required=True, metavar="SOURCE...")
@click.argument("folder", type=PATH, metavar="GALLERY")
@_duplicate_option
@_json_option
def import_command(sources: tuple[Path, ...], folder: Path, on_duplicate: Any, *, as_json: bool) -> None:
    """Add what `duch gallery export` wrote to GALLERY, which is made if it is not there.

    A new gallery appears whole or not at all. Into an old one everything is read first and added then; after an
    interrupt run it again with --on-duplicate replace.
    """
    from .gallery_import import import_gallery

    with progress_bar("importing tiles") as on_progress:
        report = import_gallery(sources, folder, on_duplicate=on_duplicate, on_progress=on_progress)
    if as_json:
        print_json({"gallery": folder, **asdict(report)})
        return
    replaced = f", {report.replaced:,} of them for a tile of the same id" if report.replaced else ""
    click.echo(f"{display_path(folder)}: {counted(report.added, 'tile')} added{replaced}")


@gallery.command(short_help="Remove tiles by id or expression.")
@click.argument("folder", type=PATH, metavar="GALLERY")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--ids", "ids_file", type=PATH, help="Ids from a file, one a line; - reads stdin.")
@click.option("--where", metavar="EXPRESSION", help="All tiles that fit, as in `duch search --where`.")
@click.option("--missing-ok", is_flag=True, help="Pass over ids that are not in the gallery.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@_json_option
def remove(
    folder: Path,
    ids: tuple[str, ...],
    ids_file: Path | None,
    where: str | None,
    *,
    missing_ok: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove tiles from GALLERY by their ids, or by what is known of them: all of them or, after an error, none."""
    from contextlib import nullcontext

    from .filters import Filters
    from .gallery import Gallery
    from .where_parser import parse

    if (where is not None) == (bool(ids) or ids_file is not None):
        raise InputError("wanted ids, or --where EXPRESSION, and one of them only")
    wanted = dict.fromkeys((*ids, *(lines_of(ids_file) if ids_file is not None else ())))
    filters = Filters(ids=tuple(wanted)) if where is None else Filters(where=parse(where))
    with nullcontext() if dry_run else Gallery.writer(folder) as writer:
        with Gallery.open(folder) as opened:  # as the writer has it: no other comes between
            found = [tile.id for _, tiles in opened.batches(filters=filters) for tile in tiles]
        missing = list(wanted.keys() - set(found)) if where is None else []
        if missing and not missing_ok:
            raise InputError(
                f"{display_path(folder)} has no tile {_names(sorted(missing))}; nothing was removed, and --missing-ok "
                "passes over them"
            )
        if writer is not None:
            writer.remove(found)
    if as_json:
        print_json({"gallery": folder, "removed": found, "missing": missing, "dry_run": dry_run})
        return
    if dry_run:
        for tile_id in found:
            click.echo(printable(tile_id))
    passed_over = f", {counted(len(missing), 'unknown id')}" if missing else ""
    what = "would be removed" if dry_run else "removed"
    click.echo(f"{display_path(folder)}: {counted(len(found), 'tile')} {what}{passed_over}", err=dry_run)


@gallery.command(short_help="Build tables and indexes for quick searches.")
@click.argument("folder", type=PATH, metavar="GALLERY")
@click.option("--tables/--no-tables", default=None, help="Build tables for multi-index hashing, or delete them.")
@click.option(
    "--attribute", "attributes", multiple=True, metavar="NAME", help="Index this attribute; may be given again."
)
@click.option("--drop-attribute", "dropped", multiple=True, metavar="NAME", help="Delete the index of this attribute.")
@_json_option
def optimize(
    folder: Path, attributes: tuple[str, ...], dropped: tuple[str, ...], *, tables: bool | None, as_json: bool
) -> None:
    """Make searches of GALLERY quicker: by tables of its codes, unless told otherwise.

    Tables pay from some 100,000 tiles on, with codes of 64 or 128 bits, and take 12 bytes a tile and table at 64 bits.
    An index of an attribute pays where `duch search --where` selects few tiles by it.
    """
    from .optimize import optimize as optimize_gallery

    if tables is None and not attributes and not dropped:
        tables = True
    report = optimize_gallery(folder, tables=tables, attributes=attributes, drop_attributes=dropped)
    if as_json:
        print_json({"gallery": folder, **asdict(report)})
        return
    parts = ["no tables" if report.tables is None else f"tables of {counted(report.tables, 'code')}"]
    for what, names in (("indexed", report.added), ("index deleted", report.dropped)):
        parts += [f"{what}: {printable(', '.join(names))}"] if names else []
    click.echo(f"{display_path(folder)}: {'; '.join(parts)}")


def _show(problems: list[Problem]) -> None:
    for problem in problems[:_SHOWN]:
        click.echo(printable(str(problem)))
    if len(problems) > _SHOWN:
        click.echo(f"{len(problems) - _SHOWN:,} more; --json lists all")


def _names(ids: list[str]) -> str:
    more = f" and {len(ids) - _SHOWN_IDS:,} more" if len(ids) > _SHOWN_IDS else ""
    return ", ".join(map(repr, ids[:_SHOWN_IDS])) + more


def _size(folder: Path) -> int:
    """Bytes of all files of a gallery; none if it is not there, which others tell."""
    files: Iterable[Path] = folder.iterdir() if folder.is_dir() else ()
    return sum(file.stat().st_size for file in files if file.is_file())
