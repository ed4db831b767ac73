"""duch: find image tiles by a sentence or by another tile, by short binary codes.

`import duch` is the edge: numpy, Pillow, tokenizers and, once something is coded, onnxruntime. Training and export are
packages of their own, `duch_training` and `duch_export`.
"""

from .bundle import Bundle, read_bundle
from .codes import binarize, pack_codes, unpack_codes
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
    "Retriever",
    "Tile",
    "binarize",
    "pack_codes",
    "read_bundle",
    "unpack_codes",
]
