"""Settings of an export: defaults, TOML with its table [gate], options, and one clear line for a bad one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from duch.errors import ConfigError
from duch_export.cli import export
from duch_export.config import RECIPES, TARGETS, THRESHOLDS, ExportConfig, Thresholds, load_config
from duch_export.quantize import Recipe, Target


def toml(folder: Path, content: str) -> Path:
    file = folder / "export.toml"
    file.write_text(content)
    return file


def test_toml_changes_the_defaults_and_options_change_toml(tmp_path: Path) -> None:
    file = toml(tmp_path, 'recipe = "fp32"\n[gate]\nimage_bits = 0.9\ntext_bits = 0.91\nmax_mb = 30\n')
    config = load_config(file, {"text_bits": 0.92})
    assert config.recipe == "fp32"
    assert (config.gate.image_bits, config.gate.text_bits, config.gate.max_mb) == (0.9, 0.92, 30.0)
    assert config.gate.same_bits == Thresholds().same_bits
    assert load_config(file, {"recipe": "int8"}).recipe == "int8"


def test_without_a_file_the_defaults_hold() -> None:
    assert load_config() == ExportConfig()
    assert load_config().gate.retrieval_loss == 0.005


def test_settings_are_plain_values_that_come_back() -> None:
    config = load_config(changes={"recipe": "fp32", "golden_flips": 0.1})
    values = json.loads(json.dumps(config.to_dict()))
    assert ExportConfig(values["recipe"], values["target"], Thresholds(**values["gate"])) == config


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("recipe = 8", "recipe is 8; wanted a text"),
        ('recipe = "int4"', "recipe is 'int4'; wanted one of int8"),
        ("gate = 0.9", r"wanted a table \[gate\]"),
        ("[gate]\nimage_bits = 1.5", "image_bits is 1.5; wanted at most 1"),
        ("[gate]\nimage_bits = nan", "image_bits is nan; wanted at least 0"),
        ("[gate]\nmax_mb = inf", "max_mb is inf; wanted at most 1.79"),
        pytest.param("[gate]\nmax_mb = " + "9" * 400, "max_mb is 9+; wanted at most 1.79", id="beyond floats"),
        pytest.param("[gate]\nmax_mb = " + "9" * 5000, "is no TOML", id="beyond Python"),
        ("[gate]\nimage_bits = true", "image_bits is True; wanted a number"),
        ("[gate]\nimage_bit = 0.9", "unknown setting 'image_bit'"),
        ("image_bits = 0.9", "unknown setting 'image_bits'; wanted one of gate, recipe, target"),
        ("recipe = ", "is no TOML"),
    ],
)
def test_a_bad_setting_is_one_line(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(toml(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "nothing.toml")


def test_recipes_and_targets_are_those_of_the_quantizer() -> None:
    assert list(RECIPES) == list(Recipe)
    assert list(TARGETS) == list(Target)


def test_every_threshold_is_an_option_with_its_default_and_help() -> None:
    text = " ".join(CliRunner().invoke(export, ["--help"], terminal_width=200).output.split())
    for spec in dataclasses.fields(Thresholds):
        assert f"--gate-{spec.name.replace('_', '-')}" in text
        assert f"{spec.metadata['help']}. [default: {spec.default:g}]" in text
    assert not set(THRESHOLDS) & {spec.name for spec in dataclasses.fields(ExportConfig)}
