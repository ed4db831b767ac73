"""What `duch bench` times: a list of cases, each a function that does its work and returns its times.

Shapes: n batch, t tokens.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .bench_timing import Case, CaseGraph, Limit, Stage, case_of, warm_case
from .bundle import Bundle
from .cold_start import cold_starts
from .encoder import Encoder
from .energy import Meter
from .errors import TextError
from .preprocess import Tokenizer
from .retriever import Retriever

_QUERY_TOKENS = 16  # a sentence of ten words or so
_K = 10
_MOST_COLD_RUNS = 5


@dataclass(frozen=True)
class Query:
    """What an operator would type, and an image file.

    Attributes:
        sentence: of `_QUERY_TOKENS` tokens, or nearly so.
        input_ids: its tokens, (1, t) int64.
        attention_mask: all ones, (1, t) int64.
        jpeg: bytes of an image file.
        pixels: of an image, (1, s, s, 3) uint8.
    """

    sentence: str
    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    jpeg: bytes
    pixels: NDArray[np.uint8]


def typical_query(bundle: Bundle) -> Query:
    """A query made of the golden inputs: words of the first caption, over and over, until there are enough tokens."""
    golden = bundle.golden()
    tokenize = Tokenizer(bundle.tokenizer_json(), bundle.text)
    words = itertools.cycle(golden.captions[0].split())
    sentence = next(words)
    tokens = tokenize([sentence])  # (1, t), (1, t)
    for word in itertools.islice(words, _QUERY_TOKENS):
        try:
            longer = tokenize([f"{sentence} {word}"])
        except TextError:  # more than the model reads
            break
        if longer[0].shape[1] > _QUERY_TOKENS:
            break
        sentence, tokens = f"{sentence} {word}", longer
    return Query(sentence, *tokens, golden.jpeg, golden.pixels[1:])


def cold_cases(encoder: Encoder, query: Query, retriever: Retriever | None, limit: Limit) -> list[Callable[[], Case]]:
    """Fresh processes: `duch encode` of a sentence and of an image, and `duch search` where there is a gallery."""
    bundle = os.fspath(encoder.bundle.path.absolute())
    options = [f"--threads={encoder.threads}", *(f"--provider={name}" for name in encoder.requested)]
    options += ["--allow-fallback"] if encoder.allow_fallback else []
    runs = min(_MOST_COLD_RUNS, limit.repeats or _MOST_COLD_RUNS)

    def start(graph: CaseGraph, size: int, arguments: Sequence[str]) -> Case:
        starts = cold_starts([*arguments, *options], runs=runs)
        return case_of(graph, "cold", 1, size, starts.seconds, peak_mb=starts.peak_mb)

    def start_with_image() -> Case:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "golden.jpg"
            file.write_bytes(query.jpeg)
            return start("image", encoder.image.size, ["encode", bundle, "--image", os.fspath(file)])

    cases: list[Callable[[], Case]] = [
        partial(start, "text", query.input_ids.shape[1], ["encode", bundle, "--text", query.sentence]),
        start_with_image,
    ]
    if retriever is not None:
        gallery = os.fspath(retriever.gallery.folder.absolute())
        search = ["search", gallery, query.sentence, "--bundle", bundle, "-k", str(_K)]
        cases.append(partial(start, "search", retriever.gallery.count(retriever.modality), search))
    return cases


def warm_cases(
    encoder: Encoder, query: Query, batches: Sequence[int], limit: Limit, meter: Meter | None
) -> list[Callable[[], Case]]:
    """Both graphs in this process, alone and with what comes before them, at each batch size."""
    cases: list[Callable[[], Case]] = []
    for batch in batches:
        ids, mask = (np.repeat(one, batch, axis=0) for one in (query.input_ids, query.attention_mask))  # (n, t)
        pixels = np.repeat(query.pixels, batch, axis=0)  # (n, s, s, 3)
        sentences = [query.sentence] * batch
        tokens, side = ids.shape[1], encoder.image.size
        runs: list[tuple[CaseGraph, Stage, int, Callable[[], object]]] = [
            ("text", "graph", tokens, partial(encoder.encode_tokens, ids, mask)),
            ("text", "whole", tokens, partial(encoder.encode_texts, sentences)),
            ("image", "graph", side, partial(encoder.encode_pixels, pixels)),
            ("image", "whole", side, partial(encoder.encode_images, [query.jpeg] * batch)),
        ]
        cases += [partial(warm_case, graph, stage, batch, size, run, limit, meter) for graph, stage, size, run in runs]
    return cases


def search_cases(retriever: Retriever, query: Query, limit: Limit, meter: Meter | None) -> list[Callable[[], Case]]:
    """A sentence to hits, and a code to hits."""
    modality = retriever.modality
    tiles = retriever.gallery.count(modality)

    def whole() -> object:
        return retriever.search_text(query.sentence, _K, modality=modality)

    def scan_case() -> Case:
        codes = retriever.encoder.encode_texts([query.sentence])
        scan = partial(retriever.search_codes, codes, _K, modality=modality)
        return warm_case("search", "scan", 1, tiles, scan, limit, meter)

    return [partial(warm_case, "search", "whole", 1, tiles, whole, limit, meter), scan_case]
