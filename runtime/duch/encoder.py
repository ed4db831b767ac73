"""The encoder: images and sentences to packed codes, by the two graphs of a bundle on onnxruntime.

    encoder = Encoder("bundle/")
    codes = encoder.encode_texts(["planes parked near a terminal"])   # (1, n_bits / 8) uint8

onnxruntime is imported, and each graph loaded, when the first input for it arrives: a text query never loads the image
graph.

Shapes: n inputs, b = n_bits, s = image size, t tokens.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bundle import Bundle, read_bundle
from .codes import PackedCodes
from .errors import BundleError, ImageError, InputError, TextError, one_line
from .preprocess import ImagePreprocessing, ImageSource, Tokenizer, image_to_pixels
from .providers import full_names
from .sessions import GraphName, open_session

_Output = Literal["codes", "relaxed"]

# Bounds the memory of one run; larger batches are no faster on a CPU.
_BATCH_SIZE = 32


class Encoder:
    """Codes of images and sentences. May be used from several threads.

    Attributes:
        bundle: the bundle that decides every code.
        requested: execution providers that were asked for, by their full names.
        allow_fallback: whether others may take their place.
        threads: threads of the image graph; the text graph takes one, as more do not speed up a single sentence.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str],
        *,
        providers: Sequence[str] = ("cpu",),
        allow_fallback: bool = False,
        threads: int = 0,
    ) -> None:
        """Take a bundle, or read one from its folder.

        Args:
            bundle: a bundle from `read_bundle`, or the path of one.
            providers: execution providers, the preferred one first: cpu, cuda, tensorrt, openvino, coreml, or
                onnxruntime's full names.
            allow_fallback: run on the next provider, and at last on the CPU, where one is not there or does not start;
                by default that is a ProviderError when the graph is loaded. `providers` shows what was obtained.
            threads: threads of the image graph, and images decoded at once; 0 is one per core that the process may use.

        Raises:
            BundleError: the bundle cannot be used.
            InputError: no provider or an unknown one, or a negative number of threads.
        """
        if threads < 0:
            raise InputError(f"threads is {threads}; wanted 0 (one per core) or more")
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        self.requested = full_names(providers)
        self.allow_fallback = allow_fallback
        self.threads = threads or len(os.sched_getaffinity(0))
        self._sessions: dict[GraphName, Any] = {}
        self._tokenizer: Tokenizer | None = None
        self._loading = threading.Lock()

    @property
    def n_bits(self) -> int:
        """Length of the codes."""
        return self.bundle.n_bits

    @property
    def image(self) -> ImagePreprocessing:
        """How an image becomes pixels."""
        return self.bundle.image

    @property
    def providers(self) -> dict[GraphName, tuple[str, ...]]:
        """Execution providers obtained, for each graph that is loaded by now."""
        return {graph: tuple(session.get_providers()) for graph, session in self._sessions.items()}

    def load(self, graph: GraphName) -> None:
        """Load a graph now, if it is not loaded: what is wrong with it or its provider is known before work starts.

        Raises:
            MissingPackageError: onnxruntime is not installed.
            ProviderError: a provider is not there or did not start.
            BundleError: the graph cannot be loaded.
        """
        self._session(graph)

    def encode_images(self, sources: Sequence[ImageSource], batch_size: int = _BATCH_SIZE) -> PackedCodes:
        """Packed codes of images. While a batch is coded the next one is decoded; pixels of two are in memory.

        Shape: n images, as `load_image` takes them -> (n, b / 8) uint8.

        Raises:
            ImageError: an image cannot be used.
            BundleError: the graph fails.
        """
        if isinstance(sources, str | os.PathLike) or not hasattr(sources, "__getitem__"):
            raise InputError(f"images are one {type(sources).__name__}; wanted a list of them")
        if batch_size < 1:
            raise InputError(f"batch size is {batch_size}; wanted 1 or more")
        if len(sources) < 2:  # a query starts no threads
            pixels = [image_to_pixels(source, self.image) for source in sources]
            return self.encode_pixels(np.stack(pixels)) if pixels else self._no_codes()
        from .decode import decode_ahead

        codes = []
        with decode_ahead(
            sources, lambda source: source, self.image, batch_size=batch_size, threads=self.threads
        ) as batches:
            for batch in batches:
                if batch.failed:
                    raise batch.failed[0][1]
                codes.append(self.encode_pixels(batch.pixels))
        return np.concatenate(codes)

    def encode_pixels(self, pixels: ArrayLike) -> PackedCodes:
        """Packed codes of pixels, as `image_to_pixels` makes them.

        Shape: (n, s, s, 3) uint8 -> (n, b / 8) uint8.

        Raises:
            ImageError: wrong type or shape.
            BundleError: the graph fails.
        """
        outputs = [self._run("image", "codes", feed) for feed in self._pixel_batches(pixels)]
        return np.concatenate(outputs) if outputs else self._no_codes()

    def encode_texts(self, texts: Sequence[str], *, truncate: bool = False) -> PackedCodes:
        """Packed codes of sentences.

        Shape: n sentences -> (n, b / 8) uint8.

        Args:
            texts: sentences.
            truncate: cut a sentence that is too long for the model; by default it is an error.

        Raises:
            TextError: a sentence is empty or too long.
            BundleError: the graph fails.
        """
        outputs = [self._run("text", "codes", feed) for feed in self._text_batches(texts, truncate)]
        return np.concatenate(outputs) if outputs else self._no_codes()

    def encode_tokens(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> PackedCodes:
        """Packed codes of token ids, as `Tokenizer` makes them.

        Shape: (n, t), (n, t) int64 -> (n, b / 8) uint8.

        Raises:
            BundleError: the graph fails.
        """
        outputs = [self._run("text", "codes", feed) for feed in self._token_batches(input_ids, attention_mask)]
        return np.concatenate(outputs) if outputs else self._no_codes()

    def relaxed_pixels(self, pixels: ArrayLike) -> NDArray[np.float32]:
        """Relaxed codes of pixels; the sign of each value is its bit.

        Shape: (n, s, s, 3) uint8 -> (n, b) float32.

        Raises:
            ImageError: wrong type or shape.
            BundleError: the graph fails.
        """
        outputs = [self._run("image", "relaxed", feed) for feed in self._pixel_batches(pixels)]
        return np.concatenate(outputs) if outputs else self._no_relaxed()

    def relaxed_texts(self, texts: Sequence[str], *, truncate: bool = False) -> NDArray[np.float32]:
        """Relaxed codes of sentences; the sign of each value is its bit.

        Shape: n sentences -> (n, b) float32.

        Raises:
            TextError: a sentence is empty or too long.
            BundleError: the graph fails.
        """
        outputs = [self._run("text", "relaxed", feed) for feed in self._text_batches(texts, truncate)]
        return np.concatenate(outputs) if outputs else self._no_relaxed()

    def relaxed_tokens(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Relaxed codes of token ids, as `Tokenizer` makes them.

        Shape: (n, t), (n, t) int64 -> (n, b) float32.

        Raises:
            BundleError: the graph fails.
        """
        outputs = [self._run("text", "relaxed", feed) for feed in self._token_batches(input_ids, attention_mask)]
        return np.concatenate(outputs) if outputs else self._no_relaxed()

    def unknown_words(self, text: str) -> list[str]:
        """Words of a sentence that the vocabulary cannot spell; the model is blind to them."""
        return self._tokens().unknown_words(text)

    def _no_codes(self) -> PackedCodes:
        return np.zeros((0, self.n_bits // 8), dtype=np.uint8)

    def _no_relaxed(self) -> NDArray[np.float32]:
        return np.zeros((0, self.n_bits), dtype=np.float32)

    def _pixel_batches(self, pixels: ArrayLike) -> Iterator[dict[str, NDArray[Any]]]:
        array = np.asarray(pixels)
        size = self.image.size
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1:] != (size, size, 3):
            raise ImageError(f"pixels are {array.dtype} {array.shape}; wanted uint8 (n, {size}, {size}, 3)")
        step = _BATCH_SIZE if self.bundle.manifest.image_graph.batch_invariant else 1
        for start in range(0, len(array), step):
            yield {"pixels": array[start : start + step]}

    def _text_batches(self, texts: Sequence[str], truncate: bool) -> Iterator[dict[str, NDArray[Any]]]:
        if isinstance(texts, str):
            raise TextError("texts are one string; wanted a list of sentences")
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise TextError(f"sentence {position + 1} is {type(text).__name__}; wanted a string")
        return self._token_batches(*self._tokens()(texts, truncate=truncate))

    def _token_batches(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        # Dynamic int8 takes the scale of a whole batch from its largest activation, so a sentence's bits would depend
        # on its companions: a gallery coded in batches and a query coded alone would disagree (measured: 21 % of
        # MiniLM's codes the same). Such a graph gets one sentence at a time.
        step = _BATCH_SIZE if self.bundle.manifest.text_graph.batch_invariant else 1
        lengths = attention_mask.sum(axis=1)  # (n,)
        for start in range(0, len(input_ids), step):
            batch = slice(start, start + step)
            longest = lengths[batch].max()
            yield {
                "input_ids": np.ascontiguousarray(input_ids[batch, :longest]),
                "attention_mask": np.ascontiguousarray(attention_mask[batch, :longest]),
            }

    def _tokens(self) -> Tokenizer:
        with self._loading:
            if self._tokenizer is None:
                self._tokenizer = Tokenizer(self.bundle.tokenizer_json(), self.bundle.text)
            return self._tokenizer

    def _run(self, graph: GraphName, output: _Output, feed: dict[str, NDArray[Any]]) -> NDArray[Any]:
        session = self._session(graph)
        try:
            (result,) = session.run([output], feed)
        except Exception as error:  # onnxruntime's errors share no base class but Exception
            raise BundleError(f"{graph}.onnx of {self.bundle.path} fails: {one_line(error)[:300]}") from error
        width = self.n_bits // 8 if output == "codes" else self.n_bits
        rows = len(next(iter(feed.values())))
        if result.shape != (rows, width):
            raise BundleError(
                f"{graph}.onnx of {self.bundle.path} gives {output} of shape {result.shape}; "
                f"its manifest wants {(rows, width)}, so export it again"
            )
        return np.asarray(result)

    def _session(self, graph: GraphName) -> Any:
        with self._loading:
            if graph not in self._sessions:
                self._sessions[graph] = open_session(
                    self.bundle.file(f"{graph}.onnx"),
                    graph,
                    providers=self.requested,
                    allow_fallback=self.allow_fallback,
                    threads=self.threads if graph == "image" else 1,
                )
            return self._sessions[graph]
