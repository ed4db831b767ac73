"""duch: find image tiles by a sentence or by another tile, by short binary codes.

`import duch` is the edge: numpy, Pillow, tokenizers and, once something is coded, onnxruntime. Training and export are
packages of their own, `duch_training` and `duch_export`.

Each name below is imported when it is first used: the command starts at once, and can be interrupted at once.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundle import Bundle, read_bundle
    from .codes import binarize, pack_codes, unpack_codes
    from .combine import Query
    from .encoder import Encoder
    from .errors import DuchError
    from .gallery import Gallery
    from .index import HammingIndex
    from .retriever import Retriever
    from .tile import Hit, Tile

__all__ = [
    "Bundle",
    "DuchError",
    "Encoder",
    "Gallery",
    "HammingIndex",
    "Hit",
    "Query",
    "Retriever",
    "Tile",
    "binarize",
    "pack_codes",
    "read_bundle",
    "unpack_codes",
]

_HOMES = {
    "Bundle": "bundle",
    "DuchError": "errors",
    "Encoder": "encoder",
    "Gallery": "gallery",
    "HammingIndex": "index",
    "Hit": "tile",
    "Query": "combine",
    "Retriever": "retriever",
    "Tile": "tile",
    "binarize": "codes",
    "pack_codes": "codes",
    "read_bundle": "bundle",
    "unpack_codes": "codes",
}


# Where this is not set before it is imported, onnxruntime (seen in 1.31) opens connections to report to its makers, and
# keeps a database of what it has to tell below ~/.cache.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
