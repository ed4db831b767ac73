"""manifest.json: what a bundle is, and the digests that prove it whole.

BUNDLE.md is the format in prose; reader and writer are here.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from .codes import check_n_bits
from .display import display_path
from .errors import BundleCorruptError, BundleError, BundleVersionError, CodesError, InputError, one_line
from .preprocess import ImagePreprocessing, TextPreprocessing

FORMAT = "duch-bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
HASHED_FILES = ("image.onnx", "text.onnx", "tokenizer.json", "golden.npz")
_FINGERPRINT_FILES = HASHED_FILES[:3]  # re-measured golden codes do not orphan a gallery

Precision = Literal["fp32", "fp16", "int8"]

# The last bytes of manifest.json. The digest covers every byte before them, so a host in another language hashes
# bytes and never has to print a float as Python does.
_TAIL = ',\n  "manifest_sha256": "{}"\n}}\n'
_TAIL_BYTES = len(_TAIL.format("0" * 64))

# Those who sign a manifest choose its numbers: a side of 10^6 would take 3 TB for one image.
_LARGEST_SIDE = 8192
_LARGEST = 2**31 - 1

AGAIN = "copy or export the bundle again"


@dataclass(frozen=True)
class GraphInfo:
    """What is known of one graph.

    Attributes:
        precision: of the heavy weights: fp32, fp16 (arithmetic in fp32) or int8.
        recipe: name of the quantization recipe that made it.
        batch_invariant: whether an input's code is the same alone as in any batch. Where it is not, `Encoder`
            runs inputs one at a time.
        golden_budget: how many bits of its golden codes may come out otherwise on another device.
    """

    precision: Precision
    recipe: str
    batch_invariant: bool
    golden_budget: int = 0


@dataclass(frozen=True)
class Gate:
    """Whether the bundle passed the tests of its export.

    Attributes:
        passed: it did.
        failures: one line for each test that it failed.
    """

    passed: bool = True
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """manifest.json, checked.

    Attributes:
        n_bits: length of the codes.
        image: how an image becomes pixels.
        text: how a sentence becomes token ids.
        image_graph: what is known of image.onnx.
        text_graph: what is known of text.onnx.
        sha256: file name -> hex digest, for each of `HASHED_FILES`.
        fingerprint: 64 hex digits; two bundles with the same one give the same codes.
        gate: whether it passed the tests of its export.
        report: the parity report of the export; informative.
        provenance: where the bundle comes from; informative.
        format_version: version of the format.
    """

    n_bits: int
    image: ImagePreprocessing
    text: TextPreprocessing
    image_graph: GraphInfo
    text_graph: GraphInfo
    sha256: Mapping[str, str]
    fingerprint: str
    gate: Gate = Gate()
    report: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def _preprocessing(image: ImagePreprocessing, text: TextPreprocessing) -> dict[str, Any]:
    return {"image": asdict(image), "text": asdict(text)}


def fingerprint_of(
    format_version: int,
    n_bits: int,
    image: ImagePreprocessing,
    text: TextPreprocessing,
    sha256: Mapping[str, str],
) -> str:
    """64 hex digits of all that decides a code.

    Integers and ASCII strings only, so that canonical JSON is the same in every language.
    """
    decides = {
        "format_version": format_version,
        "n_bits": n_bits,
        "preprocessing": _preprocessing(image, text),
        "sha256": {file: sha256[file] for file in _FINGERPRINT_FILES},
    }
    canonical = json.dumps(decides, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def manifest_to_bytes(manifest: Manifest) -> bytes:
    """Bytes of manifest.json, its digest at the end.

    Raises:
        InputError: the report or the provenance holds what JSON cannot.
    """
    raw = {
        "format": FORMAT,
        "format_version": manifest.format_version,
        "n_bits": manifest.n_bits,
        "fingerprint": manifest.fingerprint,
        "preprocessing": _preprocessing(manifest.image, manifest.text),
        "graphs": {"image": asdict(manifest.image_graph), "text": asdict(manifest.text_graph)},
        "sha256": dict(manifest.sha256),
        "gate": asdict(manifest.gate),
        "report": manifest.report,
        "provenance": manifest.provenance,
    }
    try:
        body = json.dumps(raw, indent=2, ensure_ascii=True, allow_nan=False).removesuffix("\n}")
    except (TypeError, ValueError) as error:
        raise InputError(f"the report or provenance of the bundle is no JSON: {one_line(error)}") from error
    return (body + _TAIL.format(hashlib.sha256(body.encode()).hexdigest())).encode()


def read_manifest(file: Path) -> Manifest:
    """Read manifest.json and check its version, its digest and every field.

    Raises:
        BundleVersionError: written by another format version.
        BundleCorruptError: no JSON, another digest, a field of the wrong type.
        BundleError: missing, or the manifest of something else.
    """
    name = display_path(file)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{name} does not exist, so this folder is no bundle; wanted one of `duch export`") from None
    except OSError as error:
        raise BundleError(f"{name} cannot be read: {error.strerror}") from error
    try:
        raw = json.loads(data, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BundleCorruptError(f"{name} is no JSON: {one_line(error)}; {AGAIN}") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise BundleError(f'{name} does not say "format": "{FORMAT}", so this folder is no bundle')
    # The version comes before the digest: a newer format may compute it in another way.
    version = _Fields(raw, name).integer("format_version", 1)
    if version != FORMAT_VERSION:
        advice = "upgrade duch" if version > FORMAT_VERSION else "export it again"
        raise BundleVersionError(
            f"{name} has format version {version}, this duch reads version {FORMAT_VERSION}; {advice}"
        )
    digest = hashlib.sha256(data[:-_TAIL_BYTES]).hexdigest()
    if data[-_TAIL_BYTES:] != _TAIL.format(digest).encode():
        raise BundleCorruptError(f"{name} differs from its manifest_sha256; {AGAIN}")
    return _manifest_from_json(_Fields(raw, name), version)


def _manifest_from_json(top: _Fields, version: int) -> Manifest:
    preprocessing, graphs, sha256 = top.child("preprocessing"), top.child("graphs"), top.child("sha256")
    image, text = preprocessing.child("image"), preprocessing.child("text")
    try:
        n_bits = check_n_bits(top.integer("n_bits", 1))
    except CodesError as error:
        raise BundleCorruptError(f"{top.name}: {error}") from error
    manifest = Manifest(
        n_bits=n_bits,
        image=ImagePreprocessing(size=image.integer("size", 1, _LARGEST_SIDE)),
        text=TextPreprocessing(max_tokens=text.integer("max_tokens", 1), pad_id=text.integer("pad_id", 0)),
        image_graph=_graph_info(graphs.child("image")),
        text_graph=_graph_info(graphs.child("text")),
        sha256={file: sha256.string(file) for file in HASHED_FILES},
        fingerprint=top.string("fingerprint"),
        gate=_gate(top.child("gate")),
        report=top.child("report").raw,
        provenance=top.child("provenance").raw,
        format_version=version,
    )
    wanted = fingerprint_of(version, n_bits, manifest.image, manifest.text, manifest.sha256)
    if manifest.fingerprint != wanted:
        raise BundleCorruptError(f"{top.name} has another fingerprint than its content gives; {AGAIN}")
    return manifest


def _graph_info(raw: _Fields) -> GraphInfo:
    precision: Precision
    match raw.string("precision"):
        case "fp32" | "fp16" | "int8" as known:
            precision = known
        case other:
            raise raw.wrong("precision", other, "fp32, fp16 or int8")
    budget = raw.integer("golden_budget", 0)
    return GraphInfo(precision, raw.string("recipe"), raw.boolean("batch_invariant"), budget)


def _gate(raw: _Fields) -> Gate:
    failures = raw.raw.get("failures")
    if not isinstance(failures, list) or not all(isinstance(line, str) for line in failures):
        raise raw.wrong("failures", failures, "a list of strings")
    return Gate(raw.boolean("passed"), tuple(failures))


@dataclass(frozen=True)
class _Fields:
    """A JSON object whose members are taken with their type checked."""

    raw: dict[str, Any]
    name: str  # file and place in it, for messages

    def integer(self, key: str, least: int, most: int = _LARGEST) -> int:
        value = self.raw.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.wrong(key, value, f"an integer from {least} to {most:,}")
        return value

    def string(self, key: str) -> str:
        value = self.raw.get(key)
        if not isinstance(value, str):
            raise self.wrong(key, value, "a string")
        return value

    def boolean(self, key: str) -> bool:
        value = self.raw.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def child(self, key: str) -> _Fields:
        value = self.raw.get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, value, "an object")
        return _Fields(value, f"{self.name}: {key}")

    def wrong(self, key: str, value: object, wanted: str) -> BundleCorruptError:
        found = "missing" if key not in self.raw else json.dumps(value)[:40]
        return BundleCorruptError(f"{self.name}: {key} is {found}; wanted {wanted}")


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is more than a double holds")
    return value
