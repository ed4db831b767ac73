"""What int8 costs: flipped bits and changed answers of trained checkpoints, three seeds, two data sets.

    python benchmarks/int8.py WEAK OUT

WEAK is a folder with dataset.json and images: RSSCN7 images with RSICD captions of the same class. The scenes are
drawn here. Text is all-MiniLM-L6-v2 with heads of preset `edge`; images are the tiny encoder, trained on the same set,
and once a ResNet-18 that was trained on WEAK from random weights, at 96 px. An hour or so on two cores; what is in OUT
already is not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from minilm import minilm
from transformers import ResNetConfig, ResNetModel

SEEDS = (0, 1, 2)


def duch(*arguments: object) -> None:
    """Run a `duch` command."""
    done = subprocess.run([sys.executable, "-m", "duch", *map(str, arguments)], check=False, stdout=sys.stderr)
    if done.returncode:
        sys.exit(done.returncode)


def train(data: Path, checkpoint: Path, *options: object) -> None:
    """Train, unless it has been done."""
    if not (checkpoint / "config.json").exists():
        duch("train", data, checkpoint, *options)


def parity(checkpoint: Path, data: Path) -> dict[str, Any]:
    """Export in int8 and return the parity report."""
    bundle = checkpoint.with_name(f"{checkpoint.name}-bundle")
    if not bundle.exists():
        duch("export", checkpoint, bundle, "--data", data)
    report: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())["report"]["parity"]
    return report


def row(name: str, reports: list[dict[str, Any]]) -> str:
    """Means over seeds."""
    cells = [name]
    for side in ("image", "text"):
        cells.append(f"{statistics.mean(report[side]['bundle_to_fp32']['bits'] for report in reports):.4f}")
        cells.append(f"{statistics.mean(report[side]['bundle_to_fp32']['codes'] for report in reports):.3f}")
        cells.append(f"{min(report[side]['batch_invariance'] for report in reports):.3f}")
    for direction in ("i2t", "t2i"):
        answers = [report["retrieval"]["directions"][direction] for report in reports]
        before, after = (statistics.mean(one[key] for one in answers) for key in ("map_fp32", "map_bundle"))
        cells.append(f"{before:.3f}, {100 * (after - before):+.2f}")
    return f"| {' | '.join(cells)} |"


def main(weak: Path, out: Path) -> None:
    scenes = out / "scenes"
    if not (scenes / "dataset.json").exists():
        duch("scenes", scenes, "--count", 1000, "--seed", 2)
    train(scenes, out / "scenes-tiny", "--preset", "tiny", "--epochs", 15)
    train(weak, out / "weak-tiny", "--preset", "tiny", "--seed", 0)
    rows = []
    for name, data in (("weak", weak), ("scenes", scenes)):
        encoders = ("--image-encoder", out / f"{name}-tiny", "--text-encoder", minilm())
        reports = []
        for seed in SEEDS:
            checkpoint = out / f"{name}-edge-{seed}"
            train(data, checkpoint, "--preset", "edge", *encoders, "--seed", seed, "--feature-cache", out / "features")
            reports.append(parity(checkpoint, data))
        rows.append(row(f"{name}: tiny, MiniLM", reports))
    resnet = out / "resnet-18"
    if not resnet.exists():
        torch.manual_seed(0)
        sizes = {"embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]}
        ResNetModel(ResNetConfig(**sizes, layer_type="basic")).save_pretrained(resnet)
    options = ("--preset", "tiny", "--image-encoder", resnet, "--image-size", 96, "--epochs", 20, "--width", 1024)
    train(weak, out / "weak-resnet-18", *options, "--text-encoder", minilm(), "--no-train-text-encoder")
    rows.append(row("weak: ResNet-18, MiniLM, one seed", [parity(out / "weak-resnet-18", weak)]))
    print("| | image bits | codes | alone = batch | text bits | codes | alone = batch | i2t mAP@20, change | t2i |")
    print("|---|---|---|---|---|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weak", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    main(options.weak, options.out)
