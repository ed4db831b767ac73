"""A training run on disk: what it was started with, the state it can go on from, the log of its losses.

run.json             settings and dataset of the run, written at its start
state.safetensors    weights, optimisers and shared codes after some epoch; gone when the run is finished
losses.csv           one row an epoch, every term of the objective, unweighted
losses.png           the same as curves
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from duch.errors import CheckpointError

from .checkpoint import replacing, write_json
from .config import TrainConfig
from .data import Dataset

Row = dict[str, float]


def data_sha256(dataset: Dataset) -> str:
    """Hash of what is trained on: ids and captions, in order."""
    content = [[image.id, image.captions] for image in dataset.images]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def check_run(out: Path, config: TrainConfig, data_hash: str, *, resume: bool, overwrite: bool) -> bool:
    """Whether `out` already holds this run, finished; raises where it holds what must not be touched.

    Raises:
        CheckpointError: the folder holds something else, nothing to resume, or a run with other settings or data.
    """
    finished, started = (out / "config.json").exists(), (out / "run.json").exists()
    if out.exists() and not out.is_dir():
        raise CheckpointError(f"{out} is a file; wanted a new or empty folder for the checkpoint")
    if resume:
        if not started:
            raise CheckpointError(f"{out} holds no run to resume; start one without --resume")
        _check_same(out, {"train": config.to_dict(), "data_sha256": data_hash})
        return finished
    if (finished or started) and not overwrite:
        if finished:
            raise CheckpointError(f"{out} holds a finished checkpoint; choose another folder or add --overwrite")
        raise CheckpointError(f"{out} holds an unfinished run; add --resume to go on, or --overwrite to start anew")
    if not (finished or started) and out.exists() and any(out.iterdir()):
        raise CheckpointError(f"{out} is not empty and holds no checkpoint; wanted a new or empty folder")
    return False


def _check_same(out: Path, mine: dict[str, Any]) -> None:
    try:
        theirs = json.loads((out / "run.json").read_text(encoding="utf-8"))
        settings, data_hash = theirs["train"], theirs["data_sha256"]
        differing = [name for name, value in mine["train"].items() if settings.get(name) != value]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{out / 'run.json'} cannot be read ({error}); start anew with --overwrite") from error
    if data_hash != mine["data_sha256"]:
        raise CheckpointError(f"{out} was started on other images or captions; resume with the same dataset")
    for name in differing:
        raise CheckpointError(
            f"{out} was started with {name} = {settings.get(name)!r}, now it is {mine['train'][name]!r}; "
            "resume with the same settings, or start anew with --overwrite"
        )


def start_run(out: Path, config: TrainConfig, data_hash: str) -> None:
    """Make `out` the folder of an unfinished run."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "state.safetensors"):
        (out / name).unlink(missing_ok=True)
    write_json(out / "run.json", {"train": config.to_dict(), "data_sha256": data_hash})


@dataclass
class RunState:
    """Everything that changes while training. Random numbers are not in it: each epoch seeds its own."""

    modules: dict[str, nn.Module]
    optimisers: dict[str, optim.Optimizer]
    shared: Tensor | None  # B, (n, b)
    history: list[Row]

    def save(self, out: Path) -> None:
        """Write the state after the last epoch of `history`, whole or not at all."""
        tensors: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
        for name, optimiser in self.optimisers.items():
            for index, slots in optimiser.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{slot}": value for slot, value in slots.items()}
        if self.shared is not None:
            tensors["shared"] = self.shared
        tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        with replacing(out / "state.safetensors") as beside:
            save_file(tensors, beside, metadata={"history": json.dumps(self.history)})

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
    with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in history)


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
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=100)
