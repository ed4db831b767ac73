"""Settings as frozen dataclasses: each field has one line of help and its limits, and is checked where it is made."""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

from duch.errors import ConfigError

Settings = TypeVar("Settings")

_LARGEST = sys.float_info.max  # so infinity is refused, which JSON cannot hold


def setting(
    default: Any, help: str, *, choices: tuple[str, ...] = (), low: float | None = None, high: float = _LARGEST
) -> Any:
    """A field: its help has the unit; a text is one of `choices`, a number is from `low` to `high`, both included."""
    return field(default=default, metadata={"help": help, "choices": choices, "low": low, "high": high})


def check_settings(settings: Any) -> None:
    """Check every field made by `setting`; to be called by `__post_init__`. A whole number passes for a float.

    Raises:
        ConfigError: a value of the wrong type or out of range.
    """
    for spec in dataclasses.fields(settings):
        if not spec.metadata:
            continue
        value = getattr(settings, spec.name)
        wanted = type(spec.default)
        whole_number = wanted is float and type(value) is int
        if type(value) is not wanted and not whole_number:
            raise ConfigError(f"{spec.name} is {value!r}; wanted {_KIND[wanted]}")
        choices, low = spec.metadata["choices"], spec.metadata["low"]
        if choices and value not in choices:
            raise ConfigError(f"{spec.name} is {value!r}; wanted one of {', '.join(choices)}")
        if low is not None and not value >= low:  # NaN is no number above low either
            raise ConfigError(f"{spec.name} is {value}; wanted at least {low}")
        if low is not None and not value <= spec.metadata["high"]:
            raise ConfigError(f"{spec.name} is {value}; wanted at most {spec.metadata['high']}")
        if whole_number:
            object.__setattr__(settings, spec.name, float(value))


_KIND = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def settings_from(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Settings from plain values, such as parsed JSON or TOML.

    Raises:
        ConfigError: an unknown field, or a value of the wrong type or out of range.
    """
    known = {spec.name for spec in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"unknown setting {unknown[0]!r}; wanted one of {', '.join(sorted(known))}")
    return kind(**values)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file of settings.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, of a number of 5,000 digits
        raise ConfigError(f"config {path} is no TOML: {error}") from error
