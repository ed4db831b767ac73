"""Golden inputs for a bundle, coded by its own graphs.

The images are drawn here from a seed: a bundle travels to every box, and nobody's data set should travel in it.
"""

from __future__ import annotations

import io
from itertools import cycle

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from duch.bundle import Golden
from duch.errors import TextError
from duch.preprocess import ImagePreprocessing, Tokenizer, image_to_pixels

from .session import open_session

_CAPTIONS = (
    "Planes parked near a terminal.",
    "a river winds through green fields",
    "Une forêt près de l'aéroport, à côté d'un château",
    "机场跑道旁停着许多飞机",
)
_LONG = "several white storage tanks beside the harbour and many ships in rows on the dark blue water"


def make_golden(
    image_model: onnx.ModelProto,
    text_model: onnx.ModelProto,
    *,
    image: ImagePreprocessing,
    tokenizer: Tokenizer,
) -> Golden:
    """Golden inputs and what the graphs of the bundle make of them, each run alone and without padding."""
    png, jpeg = draw_image(image.size, kind="PNG", seed=1), draw_image(image.size, kind="JPEG", seed=2)
    pixels = np.stack([image_to_pixels(file, image) for file in (png, jpeg)])
    captions = fit_captions(tokenizer)
    input_ids, attention_mask = tokenizer(captions)
    image_session, text_session = open_session(image_model), open_session(text_model)
    outputs = ["codes", "relaxed"]
    images = [image_session.run(outputs, {"pixels": one[None]}) for one in pixels]
    texts = []
    for ids, mask in zip(input_ids, attention_mask, strict=True):
        t = int(mask.sum())
        texts.append(text_session.run(outputs, {"input_ids": ids[None, :t], "attention_mask": mask[None, :t]}))
    return Golden(
        png=png,
        jpeg=jpeg,
        pixels=pixels,
        image_relaxed=np.concatenate([relaxed for _, relaxed in images]),
        image_codes=np.concatenate([codes for codes, _ in images]),
        captions=captions,
        input_ids=input_ids,
        attention_mask=attention_mask,
        text_relaxed=np.concatenate([relaxed for _, relaxed in texts]),
        text_codes=np.concatenate([codes for codes, _ in texts]),
    )


def draw_image(size: int, *, kind: str, seed: int) -> bytes:
    """A file of fields and sheds, larger than size and not square, so that resizing and cropping are proved too."""
    rng = np.random.default_rng(seed)
    height, width = size * 5 // 4 + 3, size * 7 // 4 + 2
    fields = rng.integers(60, 200, size=(6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(fields).resize((width, height), Image.Resampling.BICUBIC)
    canvas: NDArray[np.uint8] = np.array(image)  # (height, width, 3)
    for _ in range(12):
        y, x = rng.integers(0, height - 4), rng.integers(0, width - 4)
        h, w = rng.integers(3, size // 4 + 4, size=2)
        canvas[y : y + h, x : x + w] = rng.integers(0, 256, size=3, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return buffer.getvalue()


def fit_captions(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Golden captions, cut to what the model reads, the last one as long as it reads."""
    captions = [_cut(caption, tokenizer) for caption in _CAPTIONS]
    long = ""
    for word in cycle(_LONG.split()):
        longer = f"{long} {word}".strip()
        if not _fits(longer, tokenizer):
            break
        long = longer
    return tuple(caption for caption in [*captions, long] if caption)


def _cut(caption: str, tokenizer: Tokenizer) -> str:
    while caption and not _fits(caption, tokenizer):
        caption = caption[:-1].rstrip()
    return caption


def _fits(caption: str, tokenizer: Tokenizer) -> bool:
    try:
        tokenizer([caption])
    except TextError:
        return False
    return True
