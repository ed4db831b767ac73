"""What `duch info` prints: a description of a folder as rows for eyes.

Whoever wrote the folder chose its strings, and may have put anything in a report: all of it is made printable, and
what is missing or of another type than it should be is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .display import printable
from .info import Description, member
from .table import aligned

_SIDES = ("image", "text")
_LONGEST_VALUE = 200
_LARGEST = 1e12  # of a figure; JSON knows integers that are no float

Row = tuple[str, str]


def info_table(description: Description) -> str:
    """Lines for eyes of what `duch.info.describe` found."""
    rows = {"bundle": _bundle, "checkpoint": _checkpoint, "gallery": _gallery}[description["kind"]](description)
    codes = f"{_show(description['n_bits'])} bits"
    files: dict[str, int] = description["files"]
    each = ", ".join(f"{name} {_size(size)}" for name, size in files.items())
    head: list[Row] = [(description["kind"], description["path"]), ("codes", codes)]
    return aligned([*head, *rows, ("files", f"{_size(sum(files.values()))}: {each}")])


def _bundle(of: Description) -> Iterator[Row]:
    yield "fingerprint", of["fingerprint"]
    gate = of["gate"]
    yield "export", "passed its tests" if gate["passed"] else "FAILED its tests, written by force"
    for failure in gate["failures"]:
        yield "", _show(failure)
    image, text = of["preprocessing"]["image"], of["preprocessing"]["text"]
    inputs = {
        "image": f"{image['size']} x {image['size']} pixels",
        "text": f"up to {text['max_tokens']} tokens, pad id {text['pad_id']}",
    }
    for side in _SIDES:
        graph = of["graphs"][side]
        alone = "" if graph["batch_invariant"] else ", runs one input at a time"
        yield side, f"{graph['precision']} by recipe {_show(graph['recipe'])}, {inputs[side]}{alone}"
    for side in _SIDES:
        if told := ", ".join(_parity(member(of["report"], "parity", side))):
            yield f"{side} measured", told
    yield from _provenance(of["provenance"])


def _parity(graph: Any) -> Iterator[str]:
    """The main figures of one graph in the parity report of the export."""
    if _is_number(bits := member(graph, "bundle_to_fp32", "bits")):
        yield f"{bits:.4f} of bits as fp32"
    if _is_number(codes := member(graph, "bundle_to_fp32", "codes")):
        yield f"{codes:.3f} of codes"
    if _is_number(samples := member(graph, "samples")):
        yield f"{samples} inputs"
    for name, engine in (("ms_bundle", "here"), ("ms_fp32", "fp32"), ("ms_torch", "torch")):
        if _is_number(ms := member(graph, name)):
            yield f"{ms:.2f} ms {engine}"


def _checkpoint(of: Description) -> Iterator[Row]:
    for side in _SIDES:
        preprocessing = ", ".join(_pairs(of["preprocessing"][side]))
        features = of["n_features"][side]
        if features is not None:
            yield side, f"no encoder, {_show(features)} features from a file"
        else:
            yield side, f"{_show(of['backbones'][side])}, {preprocessing}"
    yield from _provenance(of["provenance"])


def _provenance(provenance: Any) -> Iterator[Row]:
    train, facts = member(provenance, "train"), member(provenance, "facts")
    counts = ", ".join(_pairs(member(facts, "images")))
    if (dataset := member(facts, "dataset")) is not None:
        yield "trained on", f"{_show(dataset)}{counts and f': {counts} images'}"
    encoders = [_show(member(train, f"{side}_encoder")) for side in _SIDES]
    chosen = {name: member(train, name) for name in ("width", "epochs", "seed", "split_rule")}
    told = ", ".join(_pairs({name: value for name, value in chosen.items() if value is not None}))
    if told:
        yield "training", f"encoders {' and '.join(encoders)}, {told}"
    if versions := ", ".join(_pairs(member(provenance, "versions"))):
        yield "made with", versions


def _gallery(of: Description) -> Iterator[Row]:
    tiles = of["tiles"]
    removed = f", {of['removed']:,} removed" if of["removed"] else ""
    yield "tiles", f"{tiles['image']:,} images, {tiles['text']:,} texts{removed}"
    in_tables, problem = of["tables"]["rows"], of["tables"]["problem"]
    yield "search", problem or (f"tables of {in_tables:,} codes" if in_tables else "a scan")
    if of["indexed"]:
        yield "indexed", ", ".join(map(_show, of["indexed"]))
    yield "fingerprint", of["fingerprint"]
    bundle, root = of["bundle"], of["root"]
    yield "bundle", f"{bundle['path']}: {_show(bundle['state'])}" if bundle else "not remembered"
    missing = "" if root is None or root["exists"] else ": missing"
    yield "images in", f"{root['path']}{missing}" if root else "no folder: it holds no images"


def _pairs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield f"{_show(name)} {_show(one)}"


def _show(value: Any) -> str:
    text = printable(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _size(n_bytes: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:.1f} {name}"
    return f"{n_bytes} bytes"
