"""The checkpoint: training's folder, and all that export and evaluation need. safetensors and JSON, no pickle.

    config.json          format version, TrainConfig, encoder architectures, preprocessing, dataset facts; written last,
                         so a folder with a config.json is whole
    model.safetensors    weights of encoders and heads, feature scaling
    tokenizer.json
    split.json           ids of train, query and gallery
    samples.safetensors  pixels of training images: `calibration` for int8, `heldout` for the parity report
    samples.json         captions of the same two sets

A run on feature files has no encoders: its folder holds config.json, model.safetensors and split.json alone.

Samples travel with the checkpoint, so that an export needs no dataset. They come from the training split alone: no
query ever calibrates what it will judge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load_file, save
from torch import nn

from duch import durable
from duch.errors import CheckpointError, DuchError, one_line
from duch.preprocess import ImagePreprocessing, TextPreprocessing

from .config import TrainConfig, from_mapping
from .encoders import ImageEncoder, TextEncoder, backbone_config, rebuild_backbone
from .model import CrossModalHasher, HashHeads
from .splits import Split

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A trained hasher with everything needed to prepare a query for it.

    Attributes:
        hasher: in eval mode, float32, on the CPU.
        config: the settings it was trained with.
        tokenizer_json: text of tokenizer.json.
        image: how images are prepared.
        text: how sentences are prepared.
        split: ids of train, query and gallery.
        calibration_pixels: uint8 (c, size, size, 3).
        calibration_captions: sentences of the training split.
        heldout_pixels: uint8 (h, size, size, 3), disjoint from the calibration set.
        heldout_captions: disjoint from the calibration set's images.
        facts: dataset name, counts and final losses, for people.
    """

    hasher: CrossModalHasher
    config: TrainConfig
    tokenizer_json: str
    image: ImagePreprocessing
    text: TextPreprocessing
    split: Split
    calibration_pixels: NDArray[np.uint8]
    calibration_captions: list[str]
    heldout_pixels: NDArray[np.uint8]
    heldout_captions: list[str]
    facts: dict[str, Any]


@dataclass(frozen=True)
class FeatureCheckpoint:
    """Hash heads that were trained on feature files: they code features, and nothing else can.

    Attributes:
        heads: in eval mode, float32, on the CPU.
        config: the settings they were trained with.
        split: ids of train, query and gallery.
        facts: dataset name, counts, feature files and final losses, for people.
    """

    heads: HashHeads
    config: TrainConfig
    split: Split
    facts: dict[str, Any]


def save_heads(folder: Path, checkpoint: FeatureCheckpoint) -> None:
    """Write a checkpoint without encoders; config.json appears last."""
    heads = checkpoint.heads
    _save_weights(folder, heads)
    write_json(folder / "split.json", checkpoint.split.to_dict())
    description = {
        "image": {"n_features": heads.image_head.n_features},
        "text": {"n_features": heads.text_head.n_features},
    }
    write_json(folder / "config.json", _description(checkpoint) | description)


def load_heads(folder: Path | str) -> FeatureCheckpoint:
    """Read the hash heads of a checkpoint, with or without encoders.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    folder = Path(folder)
    description = _read_description(folder)
    with _reading(folder):
        if "n_features" not in description["image"]:
            whole = load_checkpoint(folder)
            return FeatureCheckpoint(whole.hasher, whole.config, whole.split, whole.facts)
        config = from_mapping(description["train"])
        sizes = (int(description[modality]["n_features"]) for modality in ("image", "text"))
        heads = HashHeads(*sizes, n_bits=config.n_bits, width=config.width)
        heads.load_state_dict(load_file(folder / "model.safetensors"))
        split = Split.read(folder / "split.json")
        return FeatureCheckpoint(heads.eval(), config, split, description.get("facts", {}))


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; config.json appears last, so a torn write is never taken for one."""
    hasher = checkpoint.hasher
    _save_weights(folder, hasher)
    with replacing(folder / "samples.safetensors") as stream:
        arrays = {"calibration": checkpoint.calibration_pixels, "heldout": checkpoint.heldout_pixels}
        stream.write(save_arrays({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    captions = {"calibration": checkpoint.calibration_captions, "heldout": checkpoint.heldout_captions}
    write_json(folder / "samples.json", captions)
    with replacing(folder / "tokenizer.json") as stream:
        stream.write(checkpoint.tokenizer_json.encode())
    write_json(folder / "split.json", checkpoint.split.to_dict())
    image_encoder, text_encoder = hasher.image_encoder, hasher.text_encoder
    description = {
        "image": {
            "preprocessing": asdict(checkpoint.image),
            "backbone": backbone_config(image_encoder.backbone),
            "mean": image_encoder.mean.flatten().tolist(),
            "std": image_encoder.std.flatten().tolist(),
        },
        "text": {
            "preprocessing": asdict(checkpoint.text),
            "backbone": backbone_config(text_encoder.backbone),
            "pooling": text_encoder.pooling,
        },
    }
    write_json(folder / "config.json", _description(checkpoint) | description)


def _save_weights(folder: Path, module: nn.Module) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    with replacing(folder / "model.safetensors") as stream:
        stream.write(save(weights))  # save_file makes files that only their owner can read


def _description(checkpoint: Checkpoint | FeatureCheckpoint) -> dict[str, Any]:
    return {
        "format": "duch-checkpoint",
        "format_version": FORMAT_VERSION,
        "train": checkpoint.config.to_dict(),
        "split_sha256": checkpoint.split.sha256,
        "facts": checkpoint.facts,
    }


def load_checkpoint(folder: Path | str) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: no checkpoint there, an unfinished run, a newer format, a file that is missing or broken.
    """
    folder = Path(folder)
    description = _read_description(folder)
    with _reading(folder):
        config = from_mapping(description["train"])
        image, text = description["image"], description["text"]
        if "backbone" not in image:
            raise CheckpointError(
                f"checkpoint {folder} was trained on feature files and has no encoders; only `duch evaluate "
                "--features` can use it: train with encoders for anything else"
            )
        hasher = CrossModalHasher(
            ImageEncoder(rebuild_backbone(image["backbone"]), mean=image["mean"], std=image["std"]),
            TextEncoder(rebuild_backbone(text["backbone"]), pooling=text["pooling"]),
            n_bits=config.n_bits,
            width=config.width,
        )
        hasher.load_state_dict(load_file(folder / "model.safetensors"))
        samples = load_arrays(folder / "samples.safetensors")
        captions = _read_json(folder / "samples.json")
        for part in ("calibration", "heldout"):
            _check_samples(part, samples[part], captions[part], int(image["preprocessing"]["size"]))
        return Checkpoint(
            hasher=hasher.eval(),
            config=config,
            tokenizer_json=(folder / "tokenizer.json").read_text(encoding="utf-8"),
            image=ImagePreprocessing(**image["preprocessing"]),
            text=TextPreprocessing(**text["preprocessing"]),
            split=Split.read(folder / "split.json"),
            calibration_pixels=samples["calibration"],
            calibration_captions=captions["calibration"],
            heldout_pixels=samples["heldout"],
            heldout_captions=captions["heldout"],
            facts=description.get("facts", {}),
        )


def _check_samples(part: str, pixels: NDArray[Any], captions: Any, size: int) -> None:
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
        raise ValueError(f"{part} samples are {pixels.dtype} {pixels.shape}; wanted uint8 (n, {size}, {size}, 3)")
    if not isinstance(captions, list) or not all(isinstance(one, str) and one.strip() for one in captions):
        raise ValueError(f"{part} captions are no list of sentences")


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not folder.is_dir():
        raise CheckpointError(f"checkpoint {folder} does not exist; wanted a folder that `duch train` wrote")
    if not path.exists():
        if (folder / "run.json").exists():
            raise CheckpointError(f"{folder} holds an unfinished run; finish it with `duch train ... --resume`")
        raise CheckpointError(f"{folder} holds no config.json; wanted a folder that `duch train` wrote")
    description = _read_json(path)
    version = description.get("format_version")
    if description.get("format") != "duch-checkpoint" or not isinstance(version, int):
        raise CheckpointError(f"{path} is not the config of a duch checkpoint")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has checkpoint format {version}; this duch reads up to {FORMAT_VERSION}: upgrade duch"
        )
    return description


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        raise
    except DuchError as error:
        raise CheckpointError(f"checkpoint {folder} is broken: {error}") from error
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {folder} is broken ({type(error).__name__}: {one_line(error)[:200]}); "
            "copy it again or train anew"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file of a checkpoint whole or not at all.

    Raises:
        CheckpointError: it cannot be written; what was there before stays.
    """
    try:
        with durable.replacing(path) as stream:
            yield stream
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error.strerror}); make room on the disk and run it again"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    with replacing(path) as stream:
        stream.write(json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; copy the checkpoint again or train anew") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return value
