"""Golden inputs: what a bundle carries to prove, on any device, that its codes come out right.

golden.npz is specified in BUNDLE.md; its reader and writer are here.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError


@dataclass(frozen=True)
class Golden:
    """Inputs and what must come out of them: one PNG, one JPEG, m captions. b is n_bits, s the image size.

    Attributes:
        png: bytes of a PNG file larger than s.
        jpeg: bytes of a JPEG file larger than s.
        pixels: uint8 (2, s, s, 3), of the PNG (exact) and the JPEG (within 1 level: decoders differ).
        image_relaxed: float32 (2, b), of `pixels`.
        image_codes: uint8 (2, b / 8), of `pixels`.
        captions: m sentences.
        input_ids: int64 (m, t), padded to the longest caption.
        attention_mask: int64 (m, t).
        text_relaxed: float32 (m, b); each caption run alone and without padding.
        text_codes: uint8 (m, b / 8).
    """

    png: bytes
    jpeg: bytes
    pixels: NDArray[np.uint8]
    image_relaxed: NDArray[np.float32]
    image_codes: NDArray[np.uint8]
    captions: tuple[str, ...]
    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    text_relaxed: NDArray[np.float32]
    text_codes: NDArray[np.uint8]


def golden_to_npz(golden: Golden) -> bytes:
    """Bytes of golden.npz.

    Members are stored, not deflated, and carry a fixed date: the same arrays give the same bytes.

    Raises:
        InputError: a caption holds a line break.
    """
    arrays = {item.name: getattr(golden, item.name) for item in fields(golden)}
    for key in ("png", "jpeg"):
        arrays[key] = np.frombuffer(arrays[key], dtype=np.uint8)
    if any("\n" in caption for caption in golden.captions):
        raise InputError("a golden caption holds a line break; golden.npz keeps one caption a line")
    arrays["captions"] = np.frombuffer("\n".join(golden.captions).encode("utf-8"), dtype=np.uint8)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for key, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue())
    return buffer.getvalue()


def golden_from_arrays(arrays: Mapping[str, NDArray[Any]], n_bits: int, size: int) -> Golden:
    """Golden inputs from the arrays of golden.npz, their types and shapes checked.

    Raises:
        KeyError: an array is missing.
        ValueError: an array has another type or shape than BUNDLE.md says, or a caption is empty.
    """
    captions = tuple(arrays["captions"].tobytes().decode("utf-8").split("\n"))
    if not all(caption.strip() for caption in captions):
        raise ValueError("a caption is empty")
    m, t = len(captions), arrays["input_ids"].shape[-1]
    shapes: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "pixels": (np.uint8, (2, size, size, 3)),
        "image_relaxed": (np.float32, (2, n_bits)),
        "image_codes": (np.uint8, (2, n_bits // 8)),
        "input_ids": (np.int64, (m, t)),
        "attention_mask": (np.int64, (m, t)),
        "text_relaxed": (np.float32, (m, n_bits)),
        "text_codes": (np.uint8, (m, n_bits // 8)),
    }
    checked: dict[str, Any] = {}
    for key, (dtype, shape) in shapes.items():
        array = arrays[key]
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(f"{key} is {array.dtype} {array.shape}, wanted {np.dtype(dtype)} {shape}")
        checked[key] = array
    return Golden(png=arrays["png"].tobytes(), jpeg=arrays["jpeg"].tobytes(), captions=captions, **checked)
