"""A scene of 10,000 x 10,000 pixels into a gallery: how fast, in how much memory, and what is found in it.

    python benchmarks/scenes.py BUNDLE FOLDER [--chip 64] [--overlap 0.5] [--side 10000] [--threads 0] [--repeats 3]

Makes a COG in FOLDER (uint16, four bands, UTM, a slanted border without data; used again the next time) with built-in
scenes pasted at known places: one of each class just where a chip lies, and one, seven eighths as large, off the grid.
It is indexed by `duch index` in a process of its own, whose time from start to end stands beside what the encoder alone
takes for the same pixels in memory. Then each pasted scene is searched for, by its picture and by its captions.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

MARGIN = 320  # pixels without data around, at least
SLANT = 400  # columns by which the left and right border lean
BRIGHTEST = 3000
GSD = 10.0
LEFT, UPPER, CRS = 500_000.0, 5_400_000.0, "EPSG:32633"
TIMED_CHIPS = 1024
Times = tuple[float, float]  # seconds of the clock, of the processor


def plan(side: int, chip: int, stride: int, n_classes: int) -> list[tuple[int, int, int]]:
    """Left, upper and side of the pasted scenes, far from each other: first those on the grid of chips, then others."""
    import numpy as np

    rng = np.random.default_rng(0)
    across = int(np.ceil(np.sqrt(2 * n_classes)))
    first, last = MARGIN + SLANT + chip, side - MARGIN - SLANT - 2 * chip
    cells = [(x, y) for y in np.linspace(first, last, across) for x in np.linspace(first, last, across)]
    chosen = [cells[number] for number in rng.permutation(len(cells))[: 2 * n_classes]]
    on_grid = [(round(x / stride) * stride, round(y / stride) * stride, chip) for x, y in chosen[:n_classes]]
    small = chip * 7 // 8
    off_grid = rng.integers(1, chip - small, (n_classes, 2)) + np.array(chosen[n_classes:]) // stride * stride
    return on_grid + [(int(x), int(y), small) for x, y in off_grid]


def make(folder: Path, side: int, chip: int, stride: int) -> None:
    """Write scene.tif and planted.json, unless they are there."""
    import numpy as np
    import rasterio
    from rasterio.shutil import copy

    from duch_training.scenes import CLASSES, draw_scene

    if (folder / "planted.json").exists():
        return
    rng = np.random.default_rng(1)
    planted = []
    for number, (x, y, size) in enumerate(plan(side, chip, stride, len(CLASSES))):
        scene = draw_scene(CLASSES[number % len(CLASSES)], seed=1000 + number, size=max(32, size))
        picture = scene.image.resize((size, size))
        picture.save(folder / f"planted-{number:02}.png")
        planted.append({"x": x, "y": y, "size": size, "class": scene.class_name, "captions": scene.captions})
    coarse = rng.uniform(300, 1500, (4, side // 100 + 3, side // 100 + 3))
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 4, "dtype": "uint16", "nodata": 0}
    profile |= {"crs": CRS, "transform": rasterio.Affine(GSD, 0, LEFT, 0, -GSD, UPPER), "tiled": True}
    columns = np.arange(side) / 100
    whole, part = columns.astype(int), columns % 1
    with rasterio.open(folder / "plain.tif", "w", **profile) as raster:
        for top in range(0, side, 512):
            rows = np.arange(top, min(top + 512, side))
            y, v = rows // 100, (rows % 100 / 100)[:, None]
            upper, lower = coarse[:, y], coarse[:, y + 1]
            land = (1 - v) * upper + v * lower  # smooth, with the noise of a sensor
            land = land[:, :, whole] * (1 - part) + land[:, :, whole + 1] * part
            values = np.clip(land + rng.normal(0, 12, land.shape), 1, 65535).astype(np.uint16)
            for number, known in enumerate(planted):
                paste(values, top, known, folder / f"planted-{number:02}.png")
            values[:, ~data_mask(side, rows)] = 0
            raster.write(values, window=((top, top + len(rows)), (0, side)))
        raster.update_tags(TIFFTAG_DATETIME="2024:06:01 10:20:30")
    copy(folder / "plain.tif", folder / "scene.tif", driver="COG", compress="deflate", predictor="yes")
    (folder / "plain.tif").unlink()
    (folder / "planted.json").write_text(json.dumps(planted))


def paste(values: Any, top: int, known: dict[str, Any], picture: Path) -> None:
    """Red, green and blue of a picture into bands 4, 3 and 2 of some rows, infrared made up."""
    import numpy as np
    from PIL import Image

    first, last = max(known["y"], top), min(known["y"] + known["size"], top + values.shape[1])
    if first >= last:
        return
    pixels = np.asarray(Image.open(picture).convert("RGB"))[first - known["y"] : last - known["y"]]
    bands = 1 + np.rint(pixels / 255 * (BRIGHTEST - 1)).astype(np.uint16)
    place = values[:, first - top : last - top, known["x"] : known["x"] + known["size"]]
    place[3], place[2], place[1], place[0] = bands[..., 0], bands[..., 1], bands[..., 2], bands[..., 1]


def data_mask(side: int, rows: Any) -> Any:
    """Where there is data: a parallelogram, (rows, side)."""
    import numpy as np

    lean = SLANT * rows[:, None] / side
    columns = np.arange(side)
    inside = (columns >= MARGIN + SLANT - lean) & (columns < side - MARGIN - lean)
    return inside & ((rows >= MARGIN) & (rows < side - MARGIN))[:, None]


def encoder_seconds(bundle: Path, folder: Path, chip: int, overlap: float, threads: int) -> Times:
    """What the encoder takes for one chip, of some hundreds in memory: seconds, and seconds of the processor."""
    import numpy as np

    from duch.encoder import Encoder
    from duch.geo.chips import read_chips
    from duch.geo.raster import open_scene
    from duch.geo.settings import ChipSettings
    from duch.preprocess import image_to_pixels

    encoder = Encoder(bundle, threads=threads)
    settings = ChipSettings(size=chip, overlap=overlap, bands=(4, 3, 2), ranges=((0, BRIGHTEST),))
    pixels: list[Any] = []
    with open_scene(folder / "scene.tif", settings) as scene:
        for batch in read_chips(scene, settings, batch_size=64):
            pixels += [image_to_pixels(one, encoder.image) for one in batch.pixels]
            if len(pixels) >= TIMED_CHIPS:
                break
    array = np.stack(pixels)
    encoder.encode_pixels(array[:64])
    started, processor = time.perf_counter(), time.process_time()
    for start in range(0, len(array), 64):
        encoder.encode_pixels(array[start : start + 64])
    return (time.perf_counter() - started) / len(array), (time.process_time() - processor) / len(array)


def run(arguments: list[str]) -> tuple[Times, float]:
    """Seconds, seconds of the processor, and peak resident MB of one child process."""
    started = time.perf_counter()
    # A child begins with its parent's peak, so this process imports nothing large.
    child = os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{' '.join(arguments)} failed")
    times = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
    return times, usage.ru_maxrss * 1024 / 1e6


def check(bundle: Path, folder: Path, side: int, k: int) -> dict[str, Any]:
    """Pixels covered, and where the pasted scenes are found."""
    import numpy as np
    import shapely
    from rasterio.warp import transform
    from shapely.geometry import shape

    from duch.combine import Query
    from duch.retriever import Retriever

    planted = json.loads((folder / "planted.json").read_text())
    covered = np.zeros((side, side), dtype=np.bool_)
    with Retriever(folder / "gallery", bundle) as retriever:
        n_chips = 0
        for _, tiles in retriever.gallery.batches():
            for tile in tiles:
                x, y, w, h = tile.window or (0, 0, 0, 0)
                covered[y : y + h, x : x + w] = True
                n_chips += 1
        data = data_mask(side, np.arange(side))
        ranks: dict[str, list[int | None]] = {}
        for number, known in enumerate(planted):
            # One pixel smaller than it is: the footprints are right to within half a one.
            x, y = (np.array([known[name] + 1, known[name] + known["size"] - 1]) for name in "xy")
            corners = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
            lon, lat = transform(
                CRS, "EPSG:4326", [LEFT + GSD * px for px, _ in corners], [UPPER - GSD * py for _, py in corners]
            )
            ground = shapely.Polygon(list(zip(lon, lat, strict=True)))
            kind = "on the grid" if number < len(planted) // 2 else "off the grid"
            queries = {"picture": Query(images=[folder / f"planted-{number:02}.png"])}
            queries["captions"] = Query(texts=known["captions"])
            for name, query in queries.items():
                hits = retriever.search(query, k)
                rank = next((hit.rank for hit in hits if shape(hit.attributes["geometry"]).contains(ground)), None)
                ranks.setdefault(f"{name}, {kind}", []).append(rank)
    return {
        "chips": n_chips,
        "covered": float(covered[data].mean()),
        "ranks": ranks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chip", type=int, default=64, help="other sizes than the bundle's are resized, which counts")
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-k", type=int, default=10)
    given = parser.parse_args()
    bundle, folder, threads = given.bundle, given.folder, given.threads
    folder.mkdir(parents=True, exist_ok=True)
    stride = round(given.chip * (1 - given.overlap))
    processes = multiprocessing.get_context("spawn")
    with processes.Pool(1, maxtasksperchild=1) as pool:
        pool.apply(make, (folder, given.side, given.chip, stride))
        timing = (bundle, folder, given.chip, given.overlap, threads)
        command = ["-m", "duch", "index", bundle, folder / "scene.tif", folder / "gallery", "--chip", given.chip]
        command += ["--overlap", given.overlap, "--bands", "4,3,2", "--range", f"0:{BRIGHTEST}", "--threads", threads]
        runs, alone = [], []
        for _ in range(given.repeats):  # taking turns, as the machine may be busy for a while
            for file in (folder / "gallery").glob("*"):
                file.unlink()
            alone.append(pool.apply(encoder_seconds, timing))
            runs.append(run([str(part) for part in command]))
        found = pool.apply(check, (bundle, folder, given.side, given.k))
    n, cores = found["chips"], len(os.sched_getaffinity(0))
    print(f"{n:,} chips of {given.chip} pixels, overlap {given.overlap}; {threads or cores} threads of {cores} cores")
    medians = []
    for name, times in (("duch index, start to end", [one for one, _ in runs]), ("the encoder alone", alone)):
        each = 1 if times is not alone else n
        seconds, processor = (each * statistics.median(column) for column in zip(*times, strict=True))
        low, high = (each * end(one for one, _ in times) for end in (min, max))
        print(f"{name}: {seconds:.1f} s ({low:.1f} to {high:.1f}), {processor:.1f} s of the processor")
        medians.append((seconds, processor))
    by_clock, by_processor = (mine / encoders for mine, encoders in zip(*medians, strict=True))
    print(f"{n / medians[0][0]:,.0f} chips/s; ratio {by_clock:.2f} (target 1.3), of the processor {by_processor:.2f}")
    print(f"peak memory: {max(peak for _, peak in runs):.0f} MB (target 600)")
    print(f"pixels with data that a chip covers: {100 * found['covered']:.3f} %")
    for name, ranks in found["ranks"].items():
        within = [rank for rank in ranks if rank is not None]
        first = sum(rank == 1 for rank in within)
        print(f"by {name}: {len(within)} of {len(ranks)} within the first {given.k}, {first} at the first place")


if __name__ == "__main__":
    main()
