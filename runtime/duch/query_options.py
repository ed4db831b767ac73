"""The options of a command that say what is looked for: words, images and tiles, and what hits are to be unlike."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import PATH, no_empty_id

if TYPE_CHECKING:
    from .combine import Query
    from .encoder import Encoder


def query_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument WORDS, --words, --image, --tile, --not-words, --not-image and --not-tile: `query`."""

    @wraps(command)
    def with_query(
        *arguments: Any,
        words: str | None,
        more_words: tuple[str, ...],
        images: tuple[Path, ...],
        tiles: tuple[str, ...],
        not_words: tuple[str, ...],
        not_images: tuple[Path, ...],
        not_tiles: tuple[str, ...],
        **options: Any,
    ) -> Any:
        from .combine import Query  # imported late: it loads numpy, and `duch search --help` does without it

        query = Query(
            texts=more_words if words is None else (words, *more_words),
            images=images,
            tiles=tiles,
            not_texts=not_words,
            not_images=not_images,
            not_tiles=not_tiles,
        )
        return command(*arguments, query=query, **options)

    decorated: Callable[..., Any] = with_query
    for option in (
        _option("--not-tile", "not_tiles", callback=no_empty_id, metavar="ID", help="Find what is unlike this tile."),
        _option("--not-image", "not_images", type=PATH, help="Find what is unlike this image."),
        _option("--not-words", "not_words", metavar="WORDS", help="Find what is unlike these words, such as clouds."),
        _option(
            "--tile", "tiles", callback=no_empty_id, metavar="ID", help="Search with this tile or chip of the gallery."
        ),
        _option("--image", "images", type=PATH, help="Search with this image; what is given is added up."),
        _option("--words", "more_words", metavar="WORDS", help="Search with these words too."),
        click.argument("words", required=False),
    ):
        decorated = option(decorated)
    return decorated


def warn_of_unknown_words(encoder: Encoder, query: Query) -> None:
    """Say on stderr which words of a query the model is blind to."""
    unknown = [word for text in (*query.texts, *query.not_texts) for word in encoder.unknown_words(text)]
    if unknown:
        click.echo(f"the model has no way to spell {', '.join(map(repr, unknown))}, and does not see it", err=True)


def picture_or_text(query: Query) -> Path | str:
    """What stands for a query in a picture of its hits: its image if it is one, else the parts as text."""
    if list(query.parts) == ["images"] and len(query.images) == 1:
        image: Path = query.parts["images"][0]
        return image
    return query.texts[0] if list(query.parts) == ["texts"] and len(query.texts) == 1 else str(query)


def _option(*names: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(*names, multiple=True, **settings)
