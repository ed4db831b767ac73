"""What happens before the graphs: an image becomes uint8 pixels, a sentence becomes token ids.

Training and the edge call these very functions, so a query is prepared as the model was taught. BUNDLE.md specifies the
same steps for hosts in other languages.

Shapes: n batch, t tokens of the longest sentence in the batch.
"""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .display import display_path
from .errors import ImageError, TextError, one_line

if TYPE_CHECKING:
    from PIL import Image

# Pillow is imported by the first image and tokenizers by the first sentence: a query needs one of them.
ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]"

# Pillow reads the file of an open image when its pixels are first asked for, and two threads may ask for one image.
_LOADING = threading.Lock()

# Above this an image is refused before it is decoded. Pillow's own default, which it only warns about.
MAX_PIXELS = 89_478_485

# These hold 8 bits a channel and turn into RGB without a choice of value range.
_RGB_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr"}

# Pillow's names for samples of 16 bits, which it would cut to 8. BMP's BGR;16 is none: it has 5 or 6 bits a channel.
_DEEP_SAMPLES = re.compile(r";16[BLN]|SGI16")
_BITS_PER_SAMPLE = 258  # tag of TIFF


@dataclass(frozen=True)
class ImagePreprocessing:
    """How an image becomes pixels: RGB, its centre square, resized to `size` (Pillow bicubic).

    Attributes:
        size: side of the square, in pixels.
    """

    size: int


@dataclass(frozen=True)
class TextPreprocessing:
    """How a sentence becomes token ids.

    Attributes:
        max_tokens: the longest sequence the text encoder reads, special tokens counted.
        pad_id: token id that fills the shorter rows of a batch; the attention mask is 0 there.
    """

    max_tokens: int
    pad_id: int = 0


def load_image(source: ImageSource) -> Image.Image:
    """Decode an image into Pillow's RGB mode.

    Takes a path, the bytes of a file, a Pillow image or an array (h, w, 3) uint8. Grey, palette and CMYK become RGB; an
    alpha channel is dropped; EXIF orientation is ignored, as tiles of the ground have none.

    Raises:
        ImageError: missing, empty, broken or truncated file; over `MAX_PIXELS`; more than 8 bits a channel.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
            raise ImageError(f"array is {source.dtype} {source.shape}; wanted uint8 (height, width, 3)")
        return Image.fromarray(source)
    name = "image" if isinstance(source, bytes | Image.Image) else display_path(source)
    try:
        if isinstance(source, Image.Image):
            with _LOADING:
                return _to_rgb(source, name)
        if (len(source) if isinstance(source, bytes) else os.stat(source).st_size) == 0:
            raise ImageError(f"{name} is empty (0 bytes); wanted an image file")
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return _to_rgb(image, name)
    except UnidentifiedImageError:
        raise ImageError(f"{name} is no image that Pillow can read; wanted PNG, JPEG, TIFF, WebP or the like") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has more than {2 * MAX_PIXELS:,} pixels; cut it into tiles first") from None
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist; wanted an image file") from None
    except IsADirectoryError:
        raise ImageError(f"{name} is a folder; wanted an image file") from None
    except PermissionError:
        raise ImageError(f"{name} cannot be opened: permission denied") from None
    except ImageError:
        raise
    except Exception as error:  # decoders of broken files raise nearly anything
        raise ImageError(f"{name} is broken or truncated: {one_line(error)}") from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name} has {width * height:,} pixels; at most {MAX_PIXELS:,}, so cut it into tiles first")
    if image.mode not in _RGB_MODES or _is_deep(image):
        raise ImageError(
            f"{name} has mode {image.mode}, more than 8 bits a channel; "
            "scale it to 8-bit RGB first, with a value range that you choose"
        )
    return image.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    """Whether the file has more than 8 bits a channel, though Pillow calls it RGB and would drop the low ones."""
    if max(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (1,))) > 8:
        return True
    # (codec, box, offset, arguments); a portable pixmap tells its largest value as its second argument
    for codec, _, _, arguments in getattr(image, "tile", ()):
        if codec.startswith("ppm") and arguments[1] > 255:
            return True
        if _DEEP_SAMPLES.search(f"{codec} {arguments}"):
            return True
    return False


def image_to_pixels(source: ImageSource, preprocessing: ImagePreprocessing) -> NDArray[np.uint8]:
    """Pixels of one image as the image graph takes them.

    The centre square is cut out, offsets rounded down, and then resized to `size` with Pillow's bicubic filter, which
    averages when it shrinks. In this order, since one call of Pillow's resize with a box looks beyond the box, and
    chooses the order of its two passes by the shape of the image.

    Shape: -> (size, size, 3) uint8.

    Raises:
        ImageError: see `load_image`.
    """
    from PIL import Image

    image = load_image(source)
    size = preprocessing.size
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    if side != size:
        square = square.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(square, dtype=np.uint8)


class Tokenizer:
    """Sentences to token ids, by a tokenizer.json of the Hugging Face tokenizers library.

    Padding and truncation settings inside the file are ignored: a batch is padded to its own longest sentence.
    """

    def __init__(self, tokenizer_json: str, preprocessing: TextPreprocessing) -> None:
        from tokenizers import Tokenizer as AnyTokenizer

        try:
            self._tokenizer = AnyTokenizer.from_str(tokenizer_json)
        except Exception as error:  # the library raises plain Exception
            raise TextError(f"tokenizer.json cannot be read: {one_line(error)}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.preprocessing = preprocessing
        names = (getattr(self._tokenizer.model, "unk_token", None), "[UNK]", "<unk>")
        self._unknown_ids = {self._tokenizer.token_to_id(name) for name in names if name} - {None}

    def __call__(self, texts: Sequence[str], *, truncate: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids and attention mask of a batch.

        Shape: n sentences -> input_ids (n, t), attention_mask (n, t), int64.

        Args:
            texts: one or more sentences.
            truncate: cut a sentence of more than `max_tokens` tokens, keeping the closing special token;
                by default it is an error.

        Raises:
            TextError: a sentence is empty, no UTF-8, or longer than `max_tokens`.
        """
        limit = self.preprocessing.max_tokens
        for position, text in enumerate(texts):
            if not text.strip():
                raise TextError(f"sentence {position + 1} of {len(texts)} is empty; wanted a few words")
            _check_utf8(text, f"sentence {position + 1} of {len(texts)}")
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        for position, row in enumerate(rows):
            if len(row) > limit and not truncate:
                raise TextError(
                    f"sentence {position + 1} of {len(texts)} has {len(row):,} tokens; this model reads at most "
                    f"{limit}, so shorten it"
                )
        rows = [row if len(row) <= limit else [*row[: limit - 1], row[-1]] for row in rows]
        longest = max((len(row) for row in rows), default=0)
        input_ids = np.full((len(rows), longest), self.preprocessing.pad_id, dtype=np.int64)  # (n, t)
        attention_mask = np.zeros((len(rows), longest), dtype=np.int64)  # (n, t)
        for position, row in enumerate(rows):
            input_ids[position, : len(row)] = row
            attention_mask[position, : len(row)] = 1
        return input_ids, attention_mask

    def unknown_words(self, text: str) -> list[str]:
        """Words of a sentence that the vocabulary cannot spell; the model is blind to them.

        Raises:
            TextError: the sentence is no UTF-8.
        """
        _check_utf8(text, "the sentence")
        encoding = self._tokenizer.encode(text)
        return [
            text[start:end]
            for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if token in self._unknown_ids and end > start
        ]


def _check_utf8(text: str, name: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # Python keeps foreign bytes of a command line as lone surrogates
        raise TextError(f"{name} holds bytes that are no UTF-8; wanted text") from None
