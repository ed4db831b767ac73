"""The golden inputs of a bundle, through all that codes them on this device: decoder, tokenizer, both graphs.

What comes out is compared with what the bundle says must come out; `duch.selftest` makes a verdict of it.

Shapes: m golden images or captions, b = n_bits.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .codes import PackedCodes, unpack_codes
from .display import printable
from .encoder import Encoder
from .errors import BundleError, ImageError, ProviderError, TextError, one_line
from .golden import Golden
from .preprocess import ImagePreprocessing, Tokenizer, image_to_pixels
from .providers import ProviderFallbackWarning
from .sessions import GraphName

JPEG_LEVELS = 1  # decoders round differently

# Enough for a median; a slow board stops after the seconds.
_RUNS, _SECONDS = 30, 2.0


@dataclass(frozen=True)
class Check:
    """One thing that a fit device has, in words: what was found, what was wanted."""

    name: str
    passed: bool
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.name}: {self.found}; wanted {self.wanted}"


@dataclass(frozen=True)
class FlippedBit:
    """A bit of a golden code that comes out otherwise here.

    Attributes:
        input: number of the golden image or caption, from 0.
        bit: number of the bit, from 0.
        golden: its relaxed value in the bundle; the nearer to 0, the less it means. None if it is no finite number.
        here: its relaxed value on this device, likewise.
    """

    input: int
    bit: int
    golden: float | None
    here: float | None


@dataclass(frozen=True)
class GraphRun:
    """One graph as it runs here.

    Attributes:
        precision: of the graph, from the manifest.
        recipe: that made it, from the manifest.
        providers: execution providers obtained, the preferred one first.
        threads: of one run.
        flipped: bits of its golden codes that differ.
        cold_ms: to load the graph and give the first code, of a PNG file or a sentence; milliseconds. The libraries are
            imported already.
        warm_ms: the same input coded again, median; milliseconds.
    """

    precision: str
    recipe: str
    providers: tuple[str, ...]
    threads: int
    flipped: tuple[FlippedBit, ...]
    cold_ms: float
    warm_ms: float


def check_pixels(bundle: Bundle, golden: Golden) -> list[Check]:
    """Whether the golden files decode and shrink to the golden pixels: the PNG exactly, the JPEG nearly."""
    png, jpeg = golden.pixels
    return [
        _pixels("PNG pixels", golden.png, png, bundle.image, levels=0),
        _pixels("JPEG pixels", golden.jpeg, jpeg, bundle.image, levels=JPEG_LEVELS),
    ]


def _pixels(name: str, file: bytes, golden: NDArray[np.uint8], preprocessing: ImagePreprocessing, levels: int) -> Check:
    wanted = f"at most {levels} from golden"
    try:
        pixels = image_to_pixels(file, preprocessing)  # (s, s, 3)
    except ImageError as error:  # a Pillow that was built without the decoder
        return Check(name, False, f"not decoded: {_told(error)}", wanted)
    difference = int(np.abs(pixels.astype(np.int16) - golden).max())
    return Check(name, difference <= levels, f"largest difference {difference} of 255", wanted)


def check_tokens(bundle: Bundle, golden: Golden) -> Check:
    """Whether the golden captions give the golden token ids and mask."""
    name, wanted = "token ids and mask", "equal to golden"
    try:
        found = Tokenizer(bundle.tokenizer_json(), bundle.text)(golden.captions)
    except TextError as error:
        return Check(name, False, _told(error), wanted)
    for ours, theirs in zip(found, (golden.input_ids, golden.attention_mask), strict=True):  # (m, t)
        if ours.shape != theirs.shape:
            return Check(name, False, f"{ours.shape[1]} tokens in the longest caption", f"{theirs.shape[1]}")
        if (wrong := (ours != theirs).any(axis=1)).any():
            return Check(name, False, f"{wrong.sum()} of {len(wrong)} captions differ", wanted)
    return Check(name, True, f"{len(golden.captions)} captions equal", wanted)


def run_graph(encoder: Encoder, graph: GraphName, golden: Golden) -> tuple[list[Check], GraphRun | None]:
    """Load a graph, code its golden inputs alone and together, and take the time.

    A graph that does not load or run is a failed check and no error, so that the rest is still looked at.

    Raises:
        MissingPackageError: onnxruntime is not installed.
    """
    manifest = encoder.bundle.manifest
    info, threads = (manifest.image_graph, encoder.threads) if graph == "image" else (manifest.text_graph, 1)
    side = _side(encoder, graph, golden)
    rows = [tuple(values[row : row + 1] for values in side.inputs) for row in range(len(side.codes))]
    requested = ", ".join(encoder.requested)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProviderFallbackWarning)  # the check tells what was obtained
            cold_ms = _milliseconds(side.first)
        alone = np.concatenate([side.encode(*row) for row in rows])  # (m, b / 8)
        relaxed = np.concatenate([side.relax(*row) for row in rows])  # (m, b)
        together = side.encode(*side.inputs) if info.batch_invariant else alone
        warm_ms = _warm(side.first)
    except ProviderError as error:
        return [Check(f"{graph} provider", False, _told(error), requested)], None
    except (BundleError, TextError, ImageError) as error:
        return [Check(f"{graph} graph", False, _told(error), "one that loads and codes")], None
    obtained = encoder.providers[graph]
    flipped = _flipped(alone, side.codes, relaxed, side.relaxed)
    wanted = f"{requested} or a fallback" if encoder.allow_fallback else requested
    checks = [
        Check(f"{graph} provider", True, ", ".join(obtained), wanted),
        _codes(graph, flipped, side.relaxed.size, info.golden_budget),
    ]
    if info.batch_invariant:
        differ = int((alone != together).any(axis=1).sum())
        found = f"{differ} of {len(alone)} codes differ from the same input alone"
        checks.append(Check(f"{graph} batch", not differ, found, "none"))
    return checks, GraphRun(info.precision, info.recipe, obtained, threads, flipped, cold_ms, warm_ms)


@dataclass(frozen=True)
class _Side:
    """One graph's golden inputs, and the methods of the encoder that take them."""

    first: Callable[[], PackedCodes]
    encode: Callable[..., PackedCodes]
    relax: Callable[..., NDArray[np.float32]]
    inputs: tuple[NDArray[Any], ...]  # each with m rows
    codes: PackedCodes
    relaxed: NDArray[np.float32]


def _side(encoder: Encoder, graph: GraphName, golden: Golden) -> _Side:
    if graph == "image":
        return _Side(
            first=lambda: encoder.encode_images([golden.png]),
            encode=encoder.encode_pixels,
            relax=encoder.relaxed_pixels,
            inputs=(golden.pixels,),
            codes=golden.image_codes,
            relaxed=golden.image_relaxed,
        )
    return _Side(
        first=lambda: encoder.encode_texts(golden.captions[:1]),
        encode=encoder.encode_tokens,
        relax=encoder.relaxed_tokens,
        inputs=(golden.input_ids, golden.attention_mask),  # our own tokenizer is judged by itself
        codes=golden.text_codes,
        relaxed=golden.text_relaxed,
    )


def _flipped(
    codes: PackedCodes, golden_codes: PackedCodes, relaxed: NDArray[np.float32], golden_relaxed: NDArray[np.float32]
) -> tuple[FlippedBit, ...]:
    """Shape: (m, b / 8) twice, (m, b) twice."""
    places = np.argwhere(unpack_codes(codes) != unpack_codes(golden_codes))  # (flips, 2)
    return tuple(
        FlippedBit(int(row), int(bit), _finite(golden_relaxed[row, bit]), _finite(relaxed[row, bit]))
        for row, bit in places
    )


def _finite(value: np.float32) -> float | None:
    return float(value) if np.isfinite(value) else None


def _codes(graph: GraphName, flipped: tuple[FlippedBit, ...], bits: int, budget: int) -> Check:
    found = f"{len(flipped)} of {bits} golden bits differ"
    if flipped:
        values = [value for bit in flipped for value in (bit.golden, bit.here)]
        known = [abs(value) for value in values if value is not None]
        found += f", |relaxed| up to {max(known):.2g}" if len(known) == len(values) else ", relaxed is no finite number"
    return Check(f"{graph} codes", len(flipped) <= budget, found, f"at most {budget}, as its manifest says")


def _told(error: Exception) -> str:
    return printable(one_line(error))


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def _warm(call: Callable[[], object]) -> float:
    times: list[float] = []
    while len(times) < _RUNS and sum(times) < 1e3 * _SECONDS:
        times.append(_milliseconds(call))
    return statistics.median(times)
