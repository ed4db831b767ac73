"""A query and its hits as one self-contained page: thumbnails and a plain map, nothing fetched from anywhere.

The page's policy (CSP) allows its own style and script by their hashes and pictures that are in it, and nothing else.
Without the script all is there but the highlighting of a hit on the map while the pointer is on its card.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .captions import distance_text, place_text, short_time, time_text
from .display import display_path, printable
from .errors import ConfigError, ImageError
from .footprint_map import footprint_map
from .geojson import geometry_of
from .html_style import SCRIPT, STYLE
from .pictures import picture_of
from .preprocess import ImageSource, load_image
from .tile import Hit

if TYPE_CHECKING:
    from PIL import Image

_THUMBNAIL = 200  # pixels a side
_QUALITY = 78  # of JPEG: 50 thumbnails are about half a megabyte
_MOST_HITS = 10_000  # a hundred megabytes, which a browser still opens
_MOST_OF_VALUE = 300  # characters of an attribute or an id that are shown
_MOST_OF_SENTENCE = 2_000


def html_page(query: str | ImageSource, hits: Sequence[Hit]) -> str:
    """Draw a query and its hits as a page of HTML, to be written as UTF-8.

    A hit on an image shows the image, or a chip's part of its scene; a hit on a sentence shows the sentence; an image
    file that is missing or broken is a grey cell.

    Args:
        query: a sentence, or an image: a `Path`, a Pillow image or an array; a string is always a sentence.
        hits: in the order of their ranks, as a `Retriever` gives them.

    Raises:
        ConfigError: more hits than a browser can show.
        ImageError: the image of the query cannot be read.
    """
    if len(hits) > _MOST_HITS:
        raise ConfigError(f"a page of {len(hits):,} hits; wanted at most {_MOST_HITS:,}, by a smaller -k")
    name, head = _head(query)
    cards = "".join(map(_card, hits))
    drawn = footprint_map(hits)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{name} · duch</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>{head}<p>{_summary(hits)}</p></header>\n"
        f'<main class="{"with-map" if drawn else "plain"}">\n{_map(drawn, hits)}'
        f'<ol class="cards">{cards}</ol>\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n'
    )


def _policy() -> str:
    style, script = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (STYLE, SCRIPT))
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _head(query: str | ImageSource) -> tuple[str, str]:
    """A name of the query for the title, and how it stands at the top of the page."""
    if isinstance(query, str):
        return escape(printable(query)), f"<p class=label>Query</p><h1>{_text(query)}</h1>"
    name = display_path(Path(query).name) if isinstance(query, os.PathLike) else "An image"
    picture = _img(load_image(query), "The image that was searched with")
    return escape(name), f"<p class=label>Query image</p><h1>{picture}{_text(name)}</h1>"


def _summary(hits: Sequence[Hit]) -> str:
    if not hits:
        return "No hits."
    if len(hits) == 1:
        return f"1 hit, {distance_text(hits[0])} away"
    nearest, farthest = (pick(hit.distance for hit in hits) for pick in (min, max))
    if nearest == farthest:
        return f"{len(hits):,} hits, each {distance_text(hits[0])} away"
    return f"{len(hits):,} hits, {nearest} to {farthest} bits away"


def _map(drawn: str, hits: Sequence[Hit]) -> str:
    if not drawn:
        return ""
    unplaced = sum(geometry_of(hit) is None for hit in hits)
    left_out = f" {unplaced} of the hits {'has' if unplaced == 1 else 'have'} none." if unplaced else ""
    return f"<figure class=map>{drawn}<figcaption>Footprints in EPSG:4326.{left_out}</figcaption></figure>\n"


def _card(hit: Hit) -> str:
    place, time = place_text(hit.footprint), short_time(hit.time_us)
    lines = [
        f"<p class=rank><b>{hit.rank}</b> <span>{distance_text(hit)}</span></p>",
        f"<p class=id>{_path_text(hit.id)}</p>",
    ]
    if place is not None:
        lines.append(f'<p><a href="#map-{hit.rank}">{place}</a></p>')
    if time is not None:
        lines.append(f'<p><time datetime="{time_text(hit.time_us)}">{time}</time></p>')
    shown = {name: value for name, value in hit.attributes.items() if name != "geometry"}
    if shown:
        rows = "".join(f"<dt>{_text(name)}</dt><dd>{_value(value)}</dd>" for name, value in shown.items())
        lines.append(f"<details><summary>Attributes</summary><dl>{rows}</dl></details>")
    return f'<li id="hit-{hit.rank}" data-rank="{hit.rank}">{_thumbnail(hit)}{"".join(lines)}</li>\n'


def _thumbnail(hit: Hit) -> str:
    if hit.modality == "text":
        return f"<blockquote>{_text(_cut(hit.text or '', _MOST_OF_SENTENCE))}</blockquote>"
    if hit.path is None:
        return "<p class=none>missing</p>"
    try:
        return _img(picture_of(hit), f"Hit {hit.rank}")
    except ImageError:
        return "<p class=none>unreadable</p>"


def _img(picture: Image.Image, alt: str) -> str:
    from PIL import Image, ImageOps

    file = io.BytesIO()
    square = ImageOps.fit(picture, (_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    square.save(file, "JPEG", quality=_QUALITY, optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{data}" width="{_THUMBNAIL}" height="{_THUMBNAIL}" alt="{alt}">'


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _text(_cut(text, _MOST_OF_VALUE))


def _path_text(tile_id: str) -> str:
    """An id, which a narrow card breaks behind the separators of a path."""
    parts = re.split("(?<=[/_#])", printable(_cut(tile_id, _MOST_OF_VALUE)))
    return f"<bdi>{'<wbr>'.join(map(escape, parts))}</bdi>"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"


def _text(text: str) -> str:
    """Text of any origin: escaped, without characters that turn the direction of what follows, and set apart."""
    return f"<bdi>{escape(printable(text))}</bdi>"
