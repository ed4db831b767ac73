"""A contact sheet: the query and its hits as one picture."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from .captions import distance_text, place_text, short_time
from .display import display_path, printable
from .errors import ConfigError, ImageError
from .pictures import picture_of
from .preprocess import ImageSource, load_image
from .tile import Hit

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_MARGIN = 28
_GAP = 18
_LABEL = 46  # height of the two lines under a tile: rank and distance, then the id
_LINE = 18  # of each further one: place, time
_RADIUS = 8
_MOST_HEIGHT = 65_500  # pixels: what JPEG can hold, a quarter of a gigabyte in memory, some 1,000 hits
_SMOOTH = 4  # masks of rounded corners are drawn this much larger and scaled down

_PAPER, _CARD, _EMPTY = "#f5f6f8", "#e4ebf8", "#d9dce1"
# Those that know most scripts first.
_SYSTEM_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "LiberationSans-Regular.ttf")
_INK, _SOFT, _ACCENT = "#171a21", "#6a7280", "#2457c5"


def contact_sheet(
    query: str | ImageSource, hits: Sequence[Hit], *, columns: int = 5, tile_size: int = 200
) -> Image.Image:
    """Draw a query and its hits.

    A hit on an image shows the image, or a chip's part of its scene; a hit on a sentence shows the sentence; an image
    file that is missing or broken is a grey cell. Below stand rank, distance in bits and id, and place and time where
    they are known.

    Args:
        query: a sentence, or an image: a `Path`, a Pillow image or an array; a string is always a sentence.
        hits: in the order of their ranks, as a `Retriever` gives them.
        columns: hits in a row.
        tile_size: side of a tile, in pixels.

    Raises:
        ConfigError: less than one column, tiles too small to read, or more hits than a picture has room for.
        ImageError: the image of the query cannot be read.
    """
    if columns < 1:
        raise ConfigError(f"columns is {columns}; wanted at least 1")
    if tile_size < 64:
        raise ConfigError(f"tile size is {tile_size}; wanted at least 64 pixels")
    # One or two hits still leave room for the head.
    across = max(min(columns, len(hits)), min(columns, 3))
    width = 2 * _MARGIN + across * tile_size + (across - 1) * _GAP
    head = _text_head(query, width) if isinstance(query, str) else _image_head(query, width, tile_size)
    rows = -(-len(hits) // columns)
    row_height = tile_size + _LABEL + _LINE * max((len(_known(hit)) for hit in hits), default=0) + _GAP
    height = head.height + (rows * row_height - _GAP if rows else 40) + _MARGIN
    if height > _MOST_HEIGHT:
        raise ConfigError(
            f"a sheet of {len(hits):,} hits has {height:,} pixels from top to bottom, wanted at most {_MOST_HEIGHT:,}: "
            "fewer hits, or a page of HTML"
        )
    sheet = Image.new("RGB", (width, height), _PAPER)
    sheet.paste(head, (0, 0))
    draw = ImageDraw.Draw(sheet)
    if not hits:
        draw.text((_MARGIN, head.height), "No hits.", fill=_SOFT, font=_font(15))
    for position, hit in enumerate(hits):
        left = _MARGIN + position % columns * (tile_size + _GAP)
        top = head.height + position // columns * row_height
        _paste_rounded(sheet, _cell(hit, tile_size), (left, top))
        _label(draw, hit, left, top + tile_size + 8, tile_size)
    return sheet


def _text_head(sentence: str, width: int) -> Image.Image:
    font = _font(26, sentence)
    lines = _wrap(sentence, font, width - 2 * _MARGIN, 4)
    head = Image.new("RGB", (width, _MARGIN + 24 + 36 * len(lines) + 16), _PAPER)
    draw = ImageDraw.Draw(head)
    draw.text((_MARGIN, _MARGIN - 4), "QUERY", fill=_ACCENT, font=_font(12))
    for i, line in enumerate(lines):
        draw.text((_MARGIN, _MARGIN + 18 + 36 * i), line, fill=_INK, font=font)
    return head


def _image_head(query: ImageSource, width: int, tile_size: int) -> Image.Image:
    picture = _square(load_image(query), tile_size)
    head = Image.new("RGB", (width, _MARGIN + tile_size + 26), _PAPER)
    _paste_rounded(head, picture, (_MARGIN, _MARGIN))
    draw = ImageDraw.Draw(head)
    left = _MARGIN + tile_size + _GAP
    draw.text((left, _MARGIN + 2), "QUERY IMAGE", fill=_ACCENT, font=_font(12))
    if isinstance(query, os.PathLike):
        name = display_path(Path(query).name)
        font = _font(20, name)
        for i, line in enumerate(_wrap(name, font, width - left - _MARGIN, 3)):
            draw.text((left, _MARGIN + 22 + 28 * i), line, fill=_INK, font=font)
    return head


def _cell(hit: Hit, size: int) -> Image.Image:
    if hit.modality == "text":
        return _text_card(hit.text or "", size)
    if hit.path is None:
        return _empty("missing", size)
    try:
        return _square(picture_of(hit), size)
    except ImageError:
        return _empty("unreadable", size)


def _square(image: Image.Image, size: int) -> Image.Image:
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)


def _text_card(text: str, size: int) -> Image.Image:
    card = Image.new("RGB", (size, size), _CARD)
    draw = ImageDraw.Draw(card)
    draw.rectangle((0, 0, 4, size), fill=_ACCENT)
    height = max(13, size // 13)
    font, line_height = _font(height, text), height * 3 // 2
    lines = _wrap(text, font, size - 36, (size - 24) // line_height)
    top = (size - line_height * len(lines)) // 2
    for i, line in enumerate(lines):
        draw.text((20, top + line_height * i), line, fill=_INK, font=font)
    return card


def _empty(reason: str, size: int) -> Image.Image:
    cell = Image.new("RGB", (size, size), _EMPTY)
    ImageDraw.Draw(cell).text((size / 2, size / 2), reason, fill=_SOFT, font=_font(15), anchor="mm")
    return cell


def _label(draw: ImageDraw.ImageDraw, hit: Hit, left: int, top: int, width: int) -> None:
    draw.text((left, top), str(hit.rank), fill=_INK, font=_font(15))
    draw.text((left + width, top + 1), distance_text(hit), fill=_SOFT, font=_font(13), anchor="ra")
    for line, text in enumerate((hit.id, *_known(hit))):
        font = _font(13, text)
        draw.text((left, top + 20 + _LINE * line), _shorten(_drawable(text), font, width), fill=_SOFT, font=font)


def _known(hit: Hit) -> list[str]:
    """What is written below the id of a hit."""
    return [text for text in (place_text(hit.footprint), short_time(hit.time_us)) if text is not None]


def _paste_rounded(sheet: Image.Image, tile: Image.Image, at: tuple[int, int]) -> None:
    sheet.paste(tile, at, _rounded(tile.size))


@cache
def _rounded(size: tuple[int, int]) -> Image.Image:
    """The mask of a tile with rounded corners."""
    large = Image.new("L", (size[0] * _SMOOTH, size[1] * _SMOOTH), 0)
    box = (0, 0, large.width - 1, large.height - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, _RADIUS * _SMOOTH, fill=255)
    return large.resize(size, Image.Resampling.LANCZOS)


def _wrap(text: str, font: Font, width: int, most: int) -> list[str]:
    """Lines no wider than `width` pixels, `most` of them at most; a cut text ends in an ellipsis."""
    lines = [""]
    for word in _drawable(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        elif len(lines) < most:
            lines.append(word)
        else:
            lines[-1] = _cut(f"{lines[-1]} {word[:width]}", font, width)
            break
    return [line if font.getlength(line) <= width else _shorten(line, font, width) for line in lines]


def _cut(text: str, font: Font, width: int) -> str:
    """The text without its end; it is measured again for each letter that goes."""
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _shorten(text: str, font: Font, width: int) -> str:
    """The text, its middle left out if it is too wide: the end of a path tells more than its beginning."""
    # A glyph is at least 2 pixels wide, so this many are never needed; a query may be long.
    keep = min(len(text), width)
    if keep == len(text) and font.getlength(text) <= width:
        return text
    while keep > 2 and font.getlength(_without_middle(text, keep)) > width:
        keep -= 1
    return _without_middle(text, keep)


def _without_middle(text: str, keep: int) -> str:
    front = keep // 3
    return text[:front] + "…" + text[len(text) - (keep - front) :]


def _drawable(text: str) -> str:
    """On one line, and spelt with what there is a font for."""
    line = printable(" ".join(text.split()))
    if line.isascii() or _system_font() is not None:
        return line
    plain = unicodedata.normalize("NFKD", line)  # "é" becomes "e" and an accent of its own
    return "".join(char if char.isascii() else "?" for char in plain if not unicodedata.combining(char))


def _font(size: int, text: str = "") -> Font:
    """Pillow's own font, which knows little beyond ASCII; for other text one of the system's, if there is any."""
    name = None if text.isascii() else _system_font()
    return ImageFont.load_default(size) if name is None else ImageFont.truetype(name, size)


@cache
def _system_font() -> str | None:
    for name in _SYSTEM_FONTS:
        try:
            ImageFont.truetype(name)
        except OSError:
            continue
        return name
    return None
