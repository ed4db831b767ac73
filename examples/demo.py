"""The whole line on built-in data: scenes, train, export, evaluate, index, search, on the map too. `make demo` runs it.

    python examples/demo.py build/demo

Each step is a `duch` command and is printed before it runs, so that it can be repeated by hand on other data. The new
folder keeps the data sets, the checkpoint, two bundles, the galleries and the pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from duch import Retriever

QUERIES = {
    "planes": "planes parked at an airport",
    "river": "a river with two bridges",
    "tanks": "white oil storage tanks",
}


def duch(*arguments: object, parse: bool = False) -> Any:
    """Run a `duch` command; returns its JSON output if `parse`."""
    command = ["duch", *map(str, arguments)]
    print("\n$ " + " ".join(f'"{part}"' if " " in part else part for part in command), flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "duch", *command[1:]], check=False, stdout=subprocess.PIPE if parse else None
    )
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout) if parse else None


def median_ms(action: Any, inputs: list[Any]) -> float:
    """Median time of one call, in milliseconds, after a warm-up."""
    action(inputs[0])
    times = []
    for item in inputs:
        started = time.perf_counter()
        action(item)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def main(out: Path, *, count: int, epochs: int) -> None:
    started = time.monotonic()
    scenes, checkpoint, gallery = out / "scenes", out / "checkpoint", out / "gallery"
    bundles = {"fp32": out / "bundle-fp32", "int8": out / "bundle"}

    duch("scenes", scenes, "--count", count, "--seed", 1)  # the defaults were chosen on scenes of seed 0
    duch("train", scenes, checkpoint, "--preset", "tiny", "--epochs", epochs)
    split = checkpoint / "split.json"
    results = {}
    for recipe, bundle in bundles.items():
        duch("export", checkpoint, bundle, "--recipe", recipe)
        results[recipe] = duch("evaluate", bundle, scenes, "--split", split, "--json", parse=True)
    duch("index", bundles["int8"], scenes / "images", gallery)
    for name, words in QUERIES.items():
        duch("search", gallery, words, "--sheet", out / f"{name}.png")
    tile = sorted((scenes / "images").glob("harbour_*"))[0]
    duch("search", gallery, "--image", tile, "--sheet", out / "by-tile.png")

    incoming, on_the_map = out / "incoming", out / "map"
    mosaic = incoming / "DUCH1_20240601T102030.tif"
    duch("scenes", out / "drawn", "--count", 400, "--seed", 2, "--geotiff", mosaic)
    bands = ("--bands", "3,2,1", "--range", "1:3000", "--pattern", r"(?P<sensor>DUCH\d)_(?P<time>\d{8}T\d{6})")
    duch("index", bundles["int8"], incoming, on_the_map, "--chip", 128, *bands)
    page, footprints = out / "map.html", out / "map.geojson"
    duch("search", on_the_map, QUERIES["planes"], "--html", page, "--geojson", footprints)

    words = [*QUERIES.values()] * 20
    tiles = sorted((scenes / "images").iterdir())[:60]
    facts = results["int8"]["facts"]
    print(
        f"\n{facts['n_queries']} queries, {facts['n_gallery']} tiles in the evaluated gallery, {facts['n_bits']} bits; "
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, text on 1 thread; medians of 60 warm queries"
    )
    print(f"{'':6}{'t2i map@20':>12}{'i2t map@20':>12}{'graphs':>10}{'words':>12}{'tile':>12}")
    score = {}
    for recipe, bundle in bundles.items():
        score[recipe] = {direction: results[recipe]["scores"][direction]["map@20"] for direction in ("t2i", "i2t")}
        size = sum((bundle / graph).stat().st_size for graph in ("image.onnx", "text.onnx")) / 1e6
        if recipe == "int8":  # the gallery's own bundle: the time of a whole query
            with Retriever(gallery, bundle) as retriever:
                text_ms, image_ms = median_ms(retriever.search_text, words), median_ms(retriever.search_image, tiles)
            latency = f"{text_ms:>9.2f} ms{image_ms:>9.2f} ms"
        else:
            latency = f"{'-':>12}{'-':>12}"
        print(f"{recipe:6}{score[recipe]['t2i']:>12.3f}{score[recipe]['i2t']:>12.3f}{size:>7.1f} MB{latency}")
    chance = results["fp32"]["chance"]["t2i"]["map@20"]
    pictures = ", ".join(f"{name}.png" for name in [*QUERIES, "by-tile"])
    print(f"\nlook at {pictures}, map.html in {out} ({time.monotonic() - started:.0f} s)")
    print(f"RESULT t2i map@20 fp32={score['fp32']['t2i']:.3f} int8={score['int8']['t2i']:.3f} chance={chance:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=Path("build/demo"))
    parser.add_argument("--count", type=int, default=4000, help="scenes to draw; half of them are trained on")
    parser.add_argument("--epochs", type=int, default=18)
    options = parser.parse_args()
    main(options.out, count=options.count, epochs=options.epochs)
