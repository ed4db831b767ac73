"""duch index: images and sentences into a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .cli_common import open_bundle, print_json, progress_bar
from .display import display_path, printable
from .errors import InputError
from .options import PATH, expect_fingerprint_option, provider_options

if TYPE_CHECKING:
    from .ingest import IngestReport

_MOST_IN_A_BATCH = 65_536  # more would be a slip of the keyboard
_SHOWN_SKIPS = 20


@click.command()
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
@expect_fingerprint_option
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
    from .encoder import Encoder
    from .ingest import index_images, index_texts

    if len(folders) > 2 or (len(folders) == 1 and texts is None):
        raise InputError(
            f"got {len(folders)} folders after BUNDLE; wanted IMAGES GALLERY, or GALLERY with --texts FILE"
        )
    gallery = folders[-1]
    encoder = Encoder(
        open_bundle(bundle, expect_fingerprint=expect_fingerprint, check_all=True),
        providers=providers,
        allow_fallback=allow_fallback,
        threads=threads,
    )
    reports = []
    if len(folders) == 2:
        with progress_bar("coding images") as on_progress:
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
        with progress_bar("coding sentences") as on_progress:
            reports.append(index_texts(encoder, texts, gallery, batch_size=batch_size, on_progress=on_progress))
    _report(gallery, reports, as_json=as_json)


def _report(gallery: Path, reports: list[IngestReport], *, as_json: bool) -> None:
    counts = {
        name: sum(getattr(report, name) for report in reports)
        for name in ("added", "replaced", "unchanged", "removed", "missing", "ignored")
    }
    skipped = [entry for report in reports for entry in report.skipped]
    if as_json:
        print_json({"gallery": gallery, **counts, "skipped": [list(entry) for entry in skipped]})
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
