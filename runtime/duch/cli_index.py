"""duch index: images, scenes and sentences into a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .chip_options import chip_options
from .cli_common import open_bundle, print_json, progress_bar, scenes_bar
from .display import display_path, printable
from .errors import ConfigError, InputError
from .options import PATH, expect_fingerprint_option, provider_options

if TYPE_CHECKING:
    from .geo.ingest import ScenesReport
    from .geo.settings import ChipSettings
    from .ingest import IngestReport

_MOST_IN_A_BATCH = 65_536  # more would be a slip of the keyboard
_SHOWN_SKIPS = 20
_COUNTS = ("added", "replaced", "unchanged", "removed", "missing", "ignored")
_CHIP_COUNTS = ("chips", "chips_removed", "chips_left_out", "empty")


@click.command()
@click.argument("bundle", type=PATH)
@click.argument("folders", type=PATH, nargs=-1, required=True, metavar="[IMAGES | SCENES] GALLERY")
@click.option("--texts", type=PATH, help='JSONL file of sentences to code: a line is {"text": ..., "id": ...}.')
@click.option("--root", type=PATH, help="Folder that tile ids are relative to; by default the one that is indexed.")
@click.option("--prune", is_flag=True, help="Take out tiles whose files are gone from the folder.")
@click.option(
    "--batch-size",
    default=64,
    show_default=True,
    type=click.IntRange(1, _MOST_IN_A_BATCH),
    help="Images or chips coded at once.",
)
@chip_options
@click.option("--asset", metavar="NAME", help="Asset of STAC items that is the scene; by default their only raster.")
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
    chips: ChipSettings | None,
    asset: str | None,
    *,
    allow_fallback: bool,
    prune: bool,
    as_json: bool,
) -> None:
    """Code the images below IMAGES, or the sentences of --texts, into GALLERY.

    With --chip, the chips of scenes: SCENES is a folder of rasters (GeoTIFF, COG, JPEG 2000, VRT ...), one raster, or a
    STAC item, item collection or static catalog. Scenes that hold anything but 8-bit RGB need --bands, and --range or
    --percentile.

    Run it again to add what is new and to replace what has changed. What was coded before an interrupt is kept; a
    scene is kept wholly or not at all. The exit code is 1 if there is nothing but scenes that cannot be used.
    """
    from .encoder import Encoder
    from .ingest import index_images, index_texts

    if len(folders) > 2 or (len(folders) == 1 and texts is None):
        raise InputError(
            f"got {len(folders)} folders after BUNDLE; wanted IMAGES GALLERY, or GALLERY with --texts FILE"
        )
    if chips is not None and len(folders) == 1:
        raise ConfigError("--chip is given without scenes; wanted SCENES GALLERY")
    if chips is None and asset is not None:
        raise ConfigError("--asset is given without --chip; wanted a size of chips too, such as --chip 224")
    gallery = folders[-1]
    encoder = Encoder(
        open_bundle(bundle, expect_fingerprint=expect_fingerprint, check_all=True),
        providers=providers,
        allow_fallback=allow_fallback,
        threads=threads,
    )
    reports: list[IngestReport] = []
    scenes: ScenesReport | None = None
    if chips is not None:
        from .geo.ingest import index_scenes

        with scenes_bar() as on_scenes:
            scenes = index_scenes(
                encoder,
                folders[0],
                gallery,
                chips,
                root=root,
                asset=asset,
                prune=prune,
                batch_size=batch_size,
                on_progress=on_scenes,
            )
    elif len(folders) == 2:
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
    _report(gallery, reports, scenes, as_json=as_json)


def _report(gallery: Path, reports: list[IngestReport], scenes: ScenesReport | None, *, as_json: bool) -> None:
    if as_json:
        both = reports if scenes is None else [scenes, *reports]
        of_chips = {} if scenes is None else {name: getattr(scenes, name) for name in _CHIP_COUNTS}
        skipped = [list(entry) for report in both for entry in report.skipped]
        print_json({"gallery": gallery, **_counts(both), **of_chips, "skipped": skipped})
    else:
        if scenes is not None:
            chips = f"{scenes.chips:,} chips added"
            if scenes.chips_removed:
                chips += f", {scenes.chips_removed:,} removed"
            if scenes.chips_left_out:
                chips += f", {scenes.chips_left_out:,} left out for missing data"
            _show(gallery, "scenes ", [scenes], f"; {chips}")
        if reports:
            _show(gallery, "", reports, "")
    if scenes is not None and scenes.in_vain:
        raise InputError(f"no scene could be used, {len(scenes.skipped)} skipped for the reasons above")


def _show(gallery: Path, what: str, reports: Sequence[IngestReport], more: str) -> None:
    skipped = [entry for report in reports for entry in report.skipped]
    for name, reason in skipped[:_SHOWN_SKIPS]:
        click.echo(f"skipped {printable(name)}: {printable(reason)}", err=True)
    if len(skipped) > _SHOWN_SKIPS:
        click.echo(f"skipped {len(skipped) - _SHOWN_SKIPS} more; --json lists all", err=True)
    told = {**_counts(reports), "skipped": len(skipped)}
    always = ("added", "unchanged")
    line = ", ".join(f"{n} {name}" for name, n in told.items() if n or name in always)
    click.echo(f"{display_path(gallery)}: {what}{line}{more}")
    if told["missing"]:
        click.echo("missing tiles are still found; take them out with --prune", err=True)


def _counts(reports: Sequence[IngestReport]) -> dict[str, int]:
    return {name: sum(getattr(report, name) for report in reports) for name in _COUNTS}
