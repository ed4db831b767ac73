"""duch info, selftest, bench: look at anything, ask whether this device is fit, and how fast it is."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import click

from .cli_common import open_bundle
from .display import display_path, printable
from .errors import InputError
from .options import PATH, Number, expect_fingerprint_option, provider_options

_MOST_IN_A_BATCH = 1024  # 150 MB of pixels at 224 x 224
_MOST_SECONDS, _MOST_RUNS = 3600, 1_000_000  # more would be a slip of the keyboard


@click.command()
@click.argument("path", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(path: Path, *, as_json: bool) -> None:
    """Tell what a bundle, checkpoint or gallery is."""
    from .info import describe
    from .info_table import info_table

    description = describe(path)
    click.echo(json.dumps(description, indent=2) if as_json else info_table(description))


@click.command()
@click.argument("bundle", type=PATH)
@provider_options
@expect_fingerprint_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def selftest(
    ctx: click.Context,
    bundle: Path,
    providers: tuple[str, ...],
    threads: int,
    expect_fingerprint: str | None,
    *,
    allow_fallback: bool,
    as_json: bool,
) -> None:
    """Tell whether this device is fit to run BUNDLE: exit code 0 if it is, else 1.

    The golden inputs of the bundle must give its golden codes. Speed is told, not judged.
    """
    from .selftest import selftest as test_bundle

    result = test_bundle(
        bundle,
        providers=providers,
        allow_fallback=allow_fallback,
        threads=threads,
        expect_fingerprint=expect_fingerprint,
    )
    click.echo(json.dumps(result.to_json(), indent=2) if as_json else result.table())
    for check in result.failed:
        click.echo(f"duch: not fit: {check}", err=True)
    ctx.exit(0 if result.fit else 1)


@click.command()
@click.argument("bundle", type=PATH)
@click.argument("gallery", type=PATH, required=False)
@provider_options
@click.option("--batch", default="1,32", show_default=True, metavar="N,N...", help="Batch sizes of both graphs.")
@click.option(
    "--seconds", type=Number(0, _MOST_SECONDS, min_open=True), help="How long each warm case runs.  [default: 2]"
)
@click.option(
    "--repeats", type=click.IntRange(1, _MOST_RUNS), help="How many runs each case has, instead of --seconds."
)
@click.option("--json", "json_to", type=PATH, metavar="FILE", help="Write JSON to FILE; to stdout if it is -.")
@click.option("--compare", type=PATH, metavar="OLD.json", help="Fail where this device is slower than OLD.json tells.")
@click.option(
    "--threshold",
    default=20.0,
    show_default=True,
    type=Number(0),
    metavar="PERCENT",
    help="With --compare: how much slower is allowed.",
)
@expect_fingerprint_option
@click.pass_context
def bench(
    ctx: click.Context,
    bundle: Path,
    gallery: Path | None,
    providers: tuple[str, ...],
    threads: int,
    batch: str,
    seconds: float | None,
    repeats: int | None,
    json_to: Path | None,
    compare: Path | None,
    threshold: float,
    expect_fingerprint: str | None,
    *,
    allow_fallback: bool,
) -> None:
    """Measure how fast this device runs BUNDLE, and searches GALLERY if it is given.

    Cold: a fresh process, from its start to its first line. Warm: each graph alone, a sentence or a JPEG file to its
    code, a sentence to hits. With --compare the exit code is 1 where a median latency or a throughput is worse by more
    than --threshold, or another provider runs the graphs.
    """
    from .bench import measure
    from .bench_compare import check_same_bundle, compare_measurements, measurement, read_measurement
    from .bench_table import bench_table
    from .durable import replacing

    if seconds is not None and repeats is not None:
        raise InputError("got --seconds and --repeats; wanted one of them")
    batches = _batch_sizes(batch)
    to_stdout = json_to == Path("-")
    if json_to is not None and not to_stdout:
        _check_file(json_to)
    earlier = None if compare is None else read_measurement(compare)
    read = open_bundle(bundle, expect_fingerprint=expect_fingerprint, check_all=True)
    if earlier is not None:
        check_same_bundle(earlier, read.fingerprint)
    with click.progressbar(length=1, label="measuring", file=sys.stderr) as bar:

        def on_progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        result = measure(
            read,
            gallery=gallery,
            providers=providers,
            allow_fallback=allow_fallback,
            threads=threads,
            batches=batches,
            seconds=seconds or 2.0,
            repeats=repeats,
            on_progress=on_progress,
        )
    text = json.dumps(result, indent=2)
    try:
        if json_to is not None and not to_stdout:
            with replacing(json_to) as file:
                file.write(f"{text}\n".encode())
            click.echo(f"wrote {display_path(json_to)}", err=True)
    finally:  # a full disk does not cost the table, nor a reader of stdout that has gone the file
        click.echo(text if to_stdout else bench_table(result))
    if earlier is None:
        return
    comparison = compare_measurements(earlier, measurement(result), threshold=threshold)
    click.echo(f"\n{comparison.table}", err=to_stdout)
    for failure in comparison.failures:
        click.echo(f"duch: {failure}", err=True)
    ctx.exit(1 if comparison.failures else 0)


def _check_file(path: Path) -> None:
    """Say now, and not after minutes of measuring, that a file cannot be written."""
    target = Path(os.path.realpath(path))
    folder = display_path(target.parent)
    if target.is_dir():
        raise InputError(f"{display_path(path)} is a folder; wanted a file for the JSON")
    if not target.parent.is_dir():
        raise InputError(f"folder {folder} does not exist, so the JSON cannot be written there")
    if not target.exists() and not os.access(target.parent, os.W_OK):
        raise InputError(f"folder {folder} is read-only here, so the JSON cannot be written there")


def _batch_sizes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    sizes = {int(part) for part in parts if re.fullmatch("[0-9]{1,9}", part)}
    if len(sizes) != len(parts) or not all(1 <= size <= _MOST_IN_A_BATCH for size in sizes):
        raise InputError(
            f"--batch is {printable(text)[:40]!r}; wanted different numbers from 1 to {_MOST_IN_A_BATCH}, such as 1,32"
        )
    return sorted(sizes)
