"""A measurement of `duch bench` judged by an earlier one: the acceptance test of a fleet."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bench import SCHEMA
from .bench_table import TITLES, CaseKey, case_key, figure, markdown, obtained, rank, title
from .display import display_path, printable
from .errors import InputError, one_line


@dataclass(frozen=True)
class Measurement:
    """What a comparison takes from the JSON of `duch bench`.

    Attributes:
        fingerprint: of the bundle.
        obtained: providers that ran the graphs.
        settings: what may explain a difference.
        cases: median milliseconds, and inputs per second, of each case.
    """

    fingerprint: str
    obtained: str
    settings: dict[str, str]
    cases: dict[CaseKey, tuple[float, float]]


@dataclass(frozen=True)
class Comparison:
    """A measurement beside an earlier one.

    Attributes:
        table: both as markdown.
        failures: one line for each thing that is worse than allowed; none if the device passes.
    """

    table: str
    failures: tuple[str, ...]


def read_measurement(file: Path) -> Measurement:
    """Read what `duch bench --json` wrote.

    Raises:
        InputError: it is missing, no JSON, of another schema, or damaged.
    """
    name = display_path(file)
    try:
        raw = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}; wanted a file of `duch bench --json`") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is no JSON: {one_line(error)}; wanted a file of `duch bench --json`") from error
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if schema != SCHEMA:
        found = "no schema" if schema is None else f"schema {printable(str(schema))[:40]}"
        raise InputError(f"{name} has {found}; wanted {SCHEMA}, which this `duch bench --json` writes")
    try:
        return measurement(raw)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        problem = f"has no {error}" if isinstance(error, KeyError) else f"makes no sense: {one_line(error)[:100]}"
        raise InputError(f"{name} {problem}; measure again with `duch bench --json`") from error


def measurement(raw: Mapping[str, Any]) -> Measurement:
    """What a comparison needs of a measurement in the schema of `duch.bench`.

    Raises:
        ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RecursionError: it is not in that schema.
    """
    hardware, software = raw["hardware"], raw["software"]
    settings = {
        "CPU": hardware["model"],
        "cores": hardware["cores"],
        "governor": hardware["governor"],
        "onnxruntime": software["onnxruntime"],
        "Python": software["python"],
        "threads": raw["threads"],
    }
    cases = {case_key(case): (_positive(case["p50_ms"]), _positive(case["per_second"])) for case in raw["cases"]}
    for graph, stage, batch, size in cases:
        if (graph, stage) not in TITLES or type(batch) is not int or type(size) is not int:
            raise ValueError(f"a case is {graph} {stage} {batch} {size}")
    return Measurement(
        fingerprint=str(raw["bundle"]["fingerprint"]),
        obtained=printable(obtained(raw)),
        settings={name: printable(json.dumps(value)) for name, value in settings.items()},
        cases=cases,
    )


def check_same_bundle(old: Measurement, fingerprint: str) -> None:
    """Refuse an earlier measurement of another bundle.

    Raises:
        InputError: it is of another bundle.
    """
    if old.fingerprint != fingerprint:
        raise InputError(
            f"the earlier measurement is of a bundle with fingerprint {printable(old.fingerprint[:12])}, "
            f"this one has {fingerprint[:12]}; compare measurements of one bundle"
        )


def compare_measurements(old: Measurement, new: Measurement, *, threshold: float) -> Comparison:
    """Judge a measurement by an earlier one of the same bundle.

    It fails where a median latency or a throughput is worse by more than `threshold` percent, and where other providers
    run the graphs. Of cold starts only the latency is judged; cases that one of the two lacks are shown, not judged.

    Raises:
        InputError: another bundle, or no case in common.
    """
    check_same_bundle(old, new.fingerprint)
    if not old.cases.keys() & new.cases.keys():
        raise InputError("the two measurements have no case in common; measure with the same --batch")
    failures = []
    if old.obtained != new.obtained:
        failures.append(f"the graphs run on other providers: {new.obtained}; earlier {old.obtained}")
    rows = [["case", "batch", "p50 ms before", "now", "ratio", "per second before", "now", "ratio"]]
    for key in sorted(old.cases.keys() | new.cases.keys(), key=rank):
        cells = []
        for index, (what, unit) in enumerate((("median latency", "ms"), ("throughput", "per second"))):
            before, now = (one.cases[key][index] if key in one.cases else None for one in (old, new))
            cells += ["-" if value is None else figure(value) for value in (before, now)]
            cells.append("-" if before is None or now is None else f"{now / before:.2f}")
            if before is None or now is None:
                continue
            worse = now / before if what == "median latency" else before / now
            judged = what == "median latency" or key[1] != "cold"  # nobody starts processes by the hundred
            if judged and worse > 1 + threshold / 100:
                failures.append(
                    f"{title(key)}, batch {key[2]}: {what} {figure(now)} {unit}, earlier {figure(before)}: "
                    f"worse by {100 * (worse - 1):.1f} %, allowed are {threshold:g} %"
                )
        rows.append([title(key), str(key[2]), *cells])
    changes = [
        f"- {name}: {old.settings[name]}, now {value}"
        for name, value in new.settings.items()
        if value != old.settings[name]
    ]
    return Comparison("\n".join([*changes, "", markdown(rows)] if changes else [markdown(rows)]), tuple(failures))


def _positive(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"a figure is {value!r}")
    return float(value)
