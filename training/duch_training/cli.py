"""Training's commands but those of the ablation: `duch scenes`, `train`, `features`, `evaluate`, `views`.

torch is imported when one runs, not before.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import click

from duch.display import display_path
from duch.errors import needs_extra
from duch.options import PATH

from .config import TrainConfig
from .options import CACHE_OPTION, FEATURES_OPTION, NEEDS, config_from, quiet_libraries


@click.command()
@click.argument("out", type=PATH)
@click.option("--count", default=4000, show_default=True, help="How many scenes, spread evenly over the classes.")
@click.option("--size", default=128, show_default=True, help="Side of a scene, in pixels.")
@click.option("--seed", default=0, show_default=True, help="The same seed draws the same scenes.")
@click.option(
    "--geotiff",
    type=PATH,
    help="Also paste all of them into this GeoTIFF: 16 bits, blue, green, red and infrared, on the map.",
)
def scenes(out: Path, count: int, size: int, seed: int, geotiff: Path | None) -> None:
    """Draw aerial scenes with captions into OUT, as a dataset for `duch train`.

    The scenes are procedural: they show what the software does where no data set is at hand, and teach a model nothing
    about real images.
    """
    with needs_extra(*NEEDS):
        from .progress import bar
        from .scenes import write_mosaic, write_scenes
    if geotiff is not None:
        geotiff.parent.mkdir(parents=True, exist_ok=True)
    with bar(count, "drawing scenes", "scene") as progress:
        file = write_scenes(out, count=count, seed=seed, size=size, on_progress=progress)
    click.echo(f"wrote {count} scenes and {file}")
    if geotiff is not None:
        with bar(count, "pasting scenes", "scene") as progress:
            write_mosaic(file, geotiff, on_progress=progress)
        click.echo(f"wrote {display_path(geotiff)}")


@click.command()
@click.argument("dataset", type=PATH)
@click.argument("out", type=PATH)
@config_from
@FEATURES_OPTION
@CACHE_OPTION
@click.option("--skip-bad", is_flag=True, help="Leave out bad records and list them, instead of stopping at the first.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished run in OUT.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier `duch train` wrote to OUT.")
def train(
    dataset: Path,
    out: Path,
    config: TrainConfig,
    *,
    features: Path | None = None,
    cache: Path | None,
    skip_bad: bool,
    resume: bool,
    overwrite: bool,
) -> None:
    """Train DUCH on the captioned images of DATASET and write a checkpoint to OUT.

    DATASET is a Karpathy JSON (RSICD, UCM-Captions ...), CSV or JSONL file, or a folder with a dataset.json. Classes in
    it are never trained on. Half of the images are trained on; OUT/split.json names them, and those for queries
    and gallery. Losses are logged to OUT/losses.csv and drawn in OUT/losses.png.
    """
    # Threads that wait for each other without spinning: with another process on one of two cores an epoch took 8.6 s
    # instead of 22.5 s, and 5.3 s instead of 4.8 s on an idle machine. Read when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with needs_extra(*NEEDS):
        from .train import train as run
    quiet_libraries()
    try:
        checkpoint = run(
            dataset,
            out,
            config,
            features=features,
            cache=cache,
            skip_bad=skip_bad,
            resume=resume,
            overwrite=overwrite,
        )
    except KeyboardInterrupt:
        if (out / "state.safetensors").exists():
            click.echo(f"\nstopped; {out} keeps the last saved epoch, go on with --resume", err=True)
        raise
    last, images = checkpoint.facts["last_epoch"], checkpoint.facts["images"]
    click.echo(
        f"{out}: {config.n_bits} bits, {config.epochs} epochs on {images['train']} of {sum(images.values())} images, "
        f"loss {last['loss']:.3f}"
    )


@click.command()
@click.argument("dataset", type=PATH)
@click.argument("cache", type=PATH)
@config_from
@click.option("--skip-bad", is_flag=True, help="Leave out bad records and list them, instead of stopping at the first.")
def features(dataset: Path, cache: Path, config: TrainConfig, *, skip_bad: bool) -> None:
    """Run frozen encoders over DATASET's training part and keep the features in the folder CACHE.

    `duch train --feature-cache CACHE` with the same options finds them there. On a machine with several GPUs
    `accelerate launch --multi_gpu -m duch features ...` shares the work out; a run that was stopped goes on where it
    was.
    """
    with needs_extra(*NEEDS):
        from .train import compute_features
    quiet_libraries()
    compute_features(dataset, cache, config, skip_bad=skip_bad)
    click.echo(f"{cache}: features of {dataset} are there")


@click.command()
@click.argument("model", type=PATH)
@click.argument("dataset", type=PATH)
@click.option("--split", type=PATH, help="Split file; a checkpoint has its own, a bundle needs one.")
@click.option("-k", default=20, show_default=True, type=click.IntRange(1), help="Rank at which mAP is cut.")
@click.option("--seed", default=42, show_default=True, help="Draws one caption for each image.")
@FEATURES_OPTION
@click.option(
    "--ties",
    type=click.Choice(["expected", "seq"]),
    default="expected",
    show_default=True,
    help="Equal distances: the mean over all their orders, or the order of the index.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out bad records of the dataset.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    model: Path,
    dataset: Path,
    split: Path | None,
    k: int,
    seed: int,
    *,
    features: Path | None,
    ties: Any,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Score MODEL, a checkpoint or a bundle, on the query and gallery parts of DATASET.

    Relevant is what has the query's class. The column `chance` is what random rankings of the same gallery score.
    """
    with needs_extra(*NEEDS):
        from .evaluate import evaluate as run
        from .evaluate import table
        from .progress import bar
    quiet_libraries()
    with bar(None, "scoring", "image") as progress:
        evaluation = run(
            model,
            dataset,
            features=features,
            split_path=split,
            k=k,
            seed=seed,
            ties=ties,
            skip_bad=skip_bad,
            progress=progress,
        )
    click.echo(json.dumps(dataclasses.asdict(evaluation), indent=2) if as_json else table(evaluation))


_CHOICES = {spec.name: spec.metadata["choices"] for spec in dataclasses.fields(TrainConfig)}
_SHOWN = {  # what changes nothing is not worth a column, and what needs models is asked for
    name: [kind for kind in _CHOICES[name] if kind not in ("none", "back-translation")]
    for name in ("image_views", "text_views")
}


@click.command()
@click.argument("dataset", type=PATH)
@click.option("--out", type=PATH, default=Path("views"), show_default=True, help="Folder that is written to.")
@click.option(
    "--image-views",
    "image_kinds",
    type=click.Choice(_CHOICES["image_views"]),
    multiple=True,
    default=_SHOWN["image_views"],
    help="Image views to show; may be given again. By default all.",
)
@click.option(
    "--text-views",
    "text_kinds",
    type=click.Choice(_CHOICES["text_views"]),
    multiple=True,
    default=_SHOWN["text_views"],
    help="Caption views to show; may be given again. By default all but back-translation.",
)
@click.option("--thesaurus", default=TrainConfig.thesaurus, help="As in `duch train`.")
@click.option("--translators", default=TrainConfig.translators, help="As in `duch train`.")
@click.option("--count", default=6, show_default=True, type=click.IntRange(1, 100), help="Images to show.")
@click.option("--size", default=224, show_default=True, type=click.IntRange(16, 1024), help="Side of an image, in px.")
@click.option("--seed", default=42, show_default=True, type=click.IntRange(0, 2**31), help="Draws what is shown.")
def views(
    dataset: Path,
    out: Path,
    image_kinds: tuple[str, ...],
    text_kinds: tuple[str, ...],
    thesaurus: str,
    translators: str,
    count: int,
    size: int,
    seed: int,
) -> None:
    """Show what the augmented copies of DATASET's images and captions look like.

    OUT/images.png has a row for each image and a column for each kind of views; OUT/captions.md, which is printed too,
    has the captions. An older picture or table there is replaced.
    """
    with needs_extra(*NEEDS):
        from .progress import bar
        from .views import CaptionViews
        from .views.show import show_views
    quiet_libraries()
    text_views = [CaptionViews(kind, thesaurus=thesaurus, translators=translators) for kind in text_kinds]
    with bar(count * len(text_views), "making views", "caption") as progress:
        table = show_views(
            dataset,
            out,
            image_kinds=image_kinds,
            text_views=text_views,
            count=count,
            size=size,
            seed=seed,
            progress=progress,
        )
    click.echo(table, nl=False)
