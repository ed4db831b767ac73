"""ExportConfig: how a checkpoint is exported, and what its bundle must prove before it is written.

A TOML file holds `recipe` and `target`, and the thresholds in a table `[gate]`; options of the command line win.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from duch.errors import ConfigError
from duch_training.settings import check_settings, read_toml, setting, settings_from

# Those of `quantize`, which takes onnxruntime to import.
RECIPES = ("int8", "optimum", "fp16", "fp32")
TARGETS = ("any", "vnni", "arm64")


@dataclass(frozen=True)
class Thresholds:
    """What `duch_export.gate` asks of a bundle. Shares are from 0 to 1."""

    same_bits: float = setting(
        0.999,
        "least share of equal bits where nothing was quantized to int8: ONNX fp32 against torch, a graph in fp32 or "
        "fp16 against ONNX fp32, and the encoder from files and sentences against the graph alone",
        low=0,
        high=1,
    )
    image_bits: float = setting(
        0.98, "least share of bits of an int8 image graph that equal ONNX fp32's", low=0, high=1
    )
    text_bits: float = setting(0.98, "least share of bits of an int8 text graph that equal ONNX fp32's", low=0, high=1)
    batch_invariance: float = setting(
        1.0,
        "least share of codes that are the same alone as in a batch, for a graph whose manifest says that they are",
        low=0,
        high=1,
    )
    constant_bits: float = setting(
        0.05,
        "largest share of bits that are the same in all codes of the held-out samples, beyond the share of torch: a "
        "model that learnt little is told, not refused",
        low=0,
        high=1,
    )
    retrieval_loss: float = setting(
        0.005,
        "largest loss of mAP@20 against ONNX fp32, in any direction; beyond it are allowed two standard errors of the "
        "difference query by query",
        low=0,
        high=1,
    )
    # With 0.98 of the bits of both graphs, the least of four trained checkpoints kept 0.81 among 128 held-out pairs and
    # 0.73 in a gallery of 560: the more tiles lie at one distance, the sooner they change places.
    top10: float = setting(
        0.7, "least share of the first ten hits by ONNX fp32 that stay among the bundle's first ten", low=0, high=1
    )
    golden_flips: float = setting(
        0.02, "share of bits of the golden codes that another device may flip, rounded up to bits", low=0, high=1
    )
    max_mb: float = setting(0.0, "largest size of both graphs together, in MB of 10^6 bytes; 0: any", low=0)
    faster_than_fp32: float = setting(
        0.0,
        "how many times faster than ONNX fp32 each graph must be on this machine, one input alone; 0: only reported",
        low=0,
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class ExportConfig:
    """All settings of an export."""

    recipe: str = setting(
        "int8",
        "how the graphs are quantized: int8; optimum, which is int8 with text as it is commonly done (needs "
        "duch[optimum]); fp16, weights stored only; fp32, as trained",
        choices=RECIPES,
    )
    target: str = setting(
        "any",
        "processors of an int8 bundle: any has 7-bit weights, which give the same codes with and without VNNI; vnni "
        "and arm64 have 8 bits",
        choices=TARGETS,
    )
    gate: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        check_settings(self)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return dataclasses.asdict(self)


THRESHOLDS = tuple(spec.name for spec in dataclasses.fields(Thresholds))


def load_config(toml: Path | None = None, changes: Mapping[str, Any] | None = None) -> ExportConfig:
    """The defaults, changed by a TOML file, then by single settings.

    Args:
        toml: file with the fields of `ExportConfig`, those of `Thresholds` in its table [gate].
        changes: settings by name; a threshold's name is not that of any other setting.

    Raises:
        ConfigError: a file that cannot be read, a setting unknown or out of range.
    """
    values = read_toml(toml) if toml is not None else {}
    gate = values.pop("gate", {})
    if not isinstance(gate, dict):
        raise ConfigError(f"gate is {gate!r}; wanted a table [gate] of thresholds, such as image_bits = 0.98")
    for name, value in (changes or {}).items():
        (gate if name in THRESHOLDS else values)[name] = value
    return settings_from(ExportConfig, {**values, "gate": settings_from(Thresholds, gate)})
