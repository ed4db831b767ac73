"""duch info, selftest, bench: look at anything, ask whether this device is fit, and how fast it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from .cli_common import open_bundle
from .display import display_path, printable
from .errors import InputError
from .options import PATH, provider_options

_MOST_IN_A_BATCH = 1024  # 150 MB of pixels at 224 x 224


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
@click.option("--expect-fingerprint", metavar="HEX", help="Refuse any bundle but this one.")
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
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="How long each warm case runs.  [default: 2]")
@click.option("--repeats", type=click.IntRange(1), help="How many runs each case has, instead of --seconds.")
@click.option("--json", "json_to", type=PATH, metavar="FILE", help="Write JSON to FILE; to stdout if it is -.")
@click.option("--compare", type=PATH, metavar="OLD.json", help="Fail where this device is slower than OLD.json tells.")
@click.option(
    "--threshold",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="PERCENT",
    help="With --compare: how much slower is allowed.",
)
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
    if json_to is not None and not to_stdout and not json_to.absolute().parent.is_dir():
        raise InputError(f"folder {display_path(json_to.parent)} does not exist, so the JSON cannot be written there")
    earlier = None if compare is None else read_measurement(compare)
    read = open_bundle(bundle, expect_fingerprint=None, check_all=True)
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
    click.echo(text if to_stdout else bench_table(result))
    if json_to is not None and not to_stdout:
        with replacing(json_to) as file:
            file.write(f"{text}\n".encode())
        click.echo(f"wrote {display_path(json_to)}", err=True)
    if earlier is None:
        return
    comparison = compare_measurements(earlier, measurement(result), threshold=threshold)
    click.echo(f"\n{comparison.table}", err=to_stdout)
    for failure in comparison.failures:
        click.echo(f"duch: {failure}", err=True)
    ctx.exit(1 if comparison.failures else 0)


def _batch_sizes(text: str) -> list[int]:
    sizes = {int(part) for part in text.split(",") if part.strip().isascii() and part.strip().isdigit()}
    if len(sizes) != len(text.split(",")) or not all(1 <= size <= _MOST_IN_A_BATCH for size in sizes):
        raise InputError(
            f"--batch is {printable(text)!r}; wanted different numbers from 1 to {_MOST_IN_A_BATCH}, such as 1,32"
        )
    return sorted(sizes)
