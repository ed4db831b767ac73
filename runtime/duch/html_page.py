"""A query and its hits as one self-contained page: thumbnails and a plain map, nothing fetched from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .display import printable
from .preprocess import ImageSource
from .tile import Hit


def html_page(query: str | ImageSource, hits: Sequence[Hit]) -> str:
    """Draw a query and its hits as a page of HTML.

    Args:
        query: a sentence, or an image: a `Path`, a Pillow image or an array; a string is always a sentence.
        hits: in the order of their ranks, as a `Retriever` gives them.

    Raises:
        ImageError: the image of the query cannot be read.
    """
    title = escape(printable(query)) if isinstance(query, str) else "image"
    items = "".join(f"<li>{escape(printable(hit.id))}</li>" for hit in hits)
    return f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title><ol>{items}</ol></html>'
