"""A training run on disk: what it was started with, the state it can go on from, the log of its losses.

run.json             settings and dataset of the run, written at its start
state.safetensors    weights, optimisers and shared codes after some epoch; gone when the run is finished
losses.csv           one row an epoch, every term of the objective, unweighted
losses.png           the same as curves
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn, optim

from duch.errors import CheckpointError

from .checkpoint import replacing, write_json
from .config import TrainConfig
from .data import Dataset
from .splits import Split

Row = dict[str, float]


# What a run may leave in its folder; anything else there is somebody's.
_OWN_FILES = {
    *("config.json", "model.safetensors", "tokenizer.json", "split.json", "samples.safetensors", "samples.json"),
    *("run.json", "state.safetensors", "losses.csv", "losses.png"),
}


def data_sha256(dataset: Dataset, pixels: NDArray[np.uint8], split: Split) -> str:
    """Hash of what is trained on: ids, captions, decoded pixels (n, size, size, 3) and split."""
    content = [[image.id, image.captions] for image in dataset.images]
    digest = hashlib.sha256(json.dumps([content, split.sha256]).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def check_folder(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that is in use, or that holds what must not be touched. Reads nothing but file names and JSON.

    Raises:
        CheckpointError: the folder holds something else, nothing to resume, or a run and neither flag is given.
    """
    if not out.exists():
        if resume:
            raise CheckpointError(f"{out} holds no run to resume; start one without --resume")
        return
    if not out.is_dir():
        raise CheckpointError(f"{out} is a file; wanted a new or empty folder for the checkpoint")
    names = {path.name for path in out.iterdir() if not path.name.endswith(".writing")}  # left by a kill
    finished, started = is_finished(out), is_started(out)
    if names and not (finished or started):
        raise CheckpointError(f"{out} is not empty and holds no duch checkpoint; wanted a new or empty folder")
    if resume:
        if not started:
            raise CheckpointError(f"{out} holds no run to resume; start one without --resume")
    elif finished and not overwrite:
        raise CheckpointError(f"{out} holds a finished checkpoint; choose another folder or add --overwrite")
    elif started and not overwrite:
        raise CheckpointError(f"{out} holds an unfinished run; add --resume to go on, or --overwrite to start anew")
    elif strangers := sorted(names - _OWN_FILES):
        raise CheckpointError(f"{out} also holds {strangers[0]}, which is no part of a checkpoint; move it away first")


def is_finished(out: Path) -> bool:
    """Whether the folder holds a whole checkpoint of duch; other models have a config.json too."""
    return _json(out / "config.json").get("format") == "duch-checkpoint"


def is_started(out: Path) -> bool:
    """Whether the folder holds a run of duch, finished or not."""
    return "data_sha256" in _json(out / "run.json")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def check_same(out: Path, config: TrainConfig, data_hash: str) -> None:
    """Refuse to resume a run with other settings or other data.

    Raises:
        CheckpointError: they differ.
    """
    theirs = _json(out / "run.json")
    settings = theirs.get("train")
    if not isinstance(settings, dict):
        raise CheckpointError(f"{out / 'run.json'} is damaged; start anew with --overwrite")
    for name, mine in config.to_dict().items():
        if settings.get(name) != mine:
            raise CheckpointError(
                f"{out} was started with {name} = {settings.get(name)!r}, now it is {mine!r}; "
                "resume with the same settings, or start anew with --overwrite"
            )
    if theirs["data_sha256"] != data_hash:
        raise CheckpointError(
            f"{out} was started on other images, captions or splits; resume with the same dataset, or start anew with "
            "--overwrite"
        )


def start_run(out: Path, config: TrainConfig, data_hash: str) -> None:
    """Make `out` the folder of an unfinished run."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "state.safetensors"):
        (out / name).unlink(missing_ok=True)
    write_json(out / "run.json", {"train": config.to_dict(), "data_sha256": data_hash})


@dataclass(frozen=True)
class Snapshot:
    """The state of a run after an epoch, apart from the run itself."""

    tensors: dict[str, Tensor]
    history: list[Row]
    scaler: dict[str, Any]

    def write(self, out: Path) -> None:
        """Write state and loss log, each whole or not at all."""
        metadata = {"history": json.dumps(self.history), "scaler": json.dumps(self.scaler)}
        with replacing(out / "state.safetensors") as stream:
            stream.write(save(self.tensors, metadata))
        write_losses(out / "losses.csv", self.history)


@dataclass
class RunState:
    """Everything that changes while training. Random numbers are not in it: each epoch seeds its own."""

    modules: dict[str, nn.Module]
    optimisers: dict[str, optim.Optimizer]
    scaler: torch.amp.GradScaler
    shared: Tensor | None  # B, (n, b)
    history: list[Row]

    def snapshot(self) -> Snapshot:
        """A copy of the state after the last epoch of `history`."""
        tensors: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
        for name, optimiser in self.optimisers.items():
            for index, slots in optimiser.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{slot}": value for slot, value in slots.items()}
        if self.shared is not None:
            tensors["shared"] = self.shared
        copies = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}
        return Snapshot(copies, list(self.history), self.scaler.state_dict())

    def load(self, out: Path) -> None:
        """Take up the saved state, if there is one.

        Raises:
            CheckpointError: the file is broken.
        """
        path = out / "state.safetensors"
        if not path.exists():
            return
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                self.history[:] = json.loads(file.metadata()["history"])
                self.scaler.load_state_dict(json.loads(file.metadata()["scaler"]))
            for name, module in self.modules.items():
                module.load_state_dict(_under(tensors, f"{name}/"))
            for name, optimiser in self.optimisers.items():
                slots: dict[int, dict[str, Tensor]] = {}
                for key, value in _under(tensors, f"{name}/").items():
                    index, _, slot = key.partition("/")
                    slots.setdefault(int(index), {})[slot] = value
                optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
            raise CheckpointError(f"{path} is broken ({error}); start anew with --overwrite") from error
        self.shared = tensors.get("shared")


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def write_losses(path: Path, history: Sequence[Row]) -> None:
    """Write the loss log as CSV."""
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in history)
    with replacing(path) as stream:
        stream.write(table.getvalue().encode())


def plot_losses(path: Path, history: Sequence[Row]) -> None:
    """Draw every term of the loss log as a curve of its own."""
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    terms = [name for name in history[0] if name not in ("epoch", "seconds", "learning_rate")]
    columns = 4
    rows = -(-len(terms) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * rows), layout="constrained")
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes.flat, terms, strict=False):
        axis.plot(epochs, [row[name] for row in history], marker="." if len(history) < 5 else "")
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("epoch", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(terms) :]:
        axis.set_axis_off()
    with replacing(path) as stream:
        figure.savefig(stream, format="png", dpi=100)
