"""duch search: the tiles nearest to words, images and other tiles."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli_common import open_bundle, print_json
from .display import display_path
from .errors import InputError
from .hits_table import hit_as_json, hits_table
from .options import (
    PATH,
    expect_fingerprint_option,
    filter_options,
    max_overlap_option,
    modality_option,
    provider_options,
)
from .query_options import picture_or_text, query_options, warn_of_unknown_words
from .search_outputs import output_options

if TYPE_CHECKING:
    from .combine import Query
    from .filters import Filters
    from .retriever import Retriever
    from .search_outputs import Outputs
    from .tile import Hit, Modality

_MOST_HITS = 1_000_000  # more would be a slip of the keyboard


@click.command()
@click.argument("gallery", type=PATH)
@query_options
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, _MOST_HITS), help="How many hits.")
@modality_option
@filter_options
@max_overlap_option
@click.option("--bundle", type=PATH, help="The bundle; by default DUCH_BUNDLE, else the one the gallery remembers.")
@click.option("--root", type=PATH, help="Folder of the image files; by default the one the gallery remembers.")
@click.option("--verify", is_flag=True, help="Check every code, column and value of the gallery first.")
@provider_options
@expect_fingerprint_option
@output_options
@click.pass_context
def search(
    ctx: click.Context,
    gallery: Path,
    query: Query,
    k: int,
    modality: Modality | None,
    filters: Filters | None,
    max_overlap: float | None,
    bundle: Path | None,
    root: Path | None,
    providers: tuple[str, ...],
    threads: int,
    expect_fingerprint: str | None,
    outputs: Outputs,
    *,
    verify: bool,
    allow_fallback: bool,
) -> None:
    """Find the tiles of GALLERY nearest to WORDS, to images or to other tiles of it.

    Several of them are added up, and half of what --not-words, --not-image and --not-tile give is taken away. Tiles
    that are named are not among the hits.
    """
    from .gallery import Gallery
    from .retriever import Retriever, find_bundle
    from .suppress import check_overlap

    read = (ctx.params["geometry"], ctx.params["ids_file"])
    outputs.check(gallery, [*query.parts.get("images", ()), *query.parts.get("not_images", ()), *filter(None, read)])
    if max_overlap is not None:
        check_overlap(max_overlap, k)
    with Gallery.open(gallery, threads=threads) as opened:
        if verify:
            opened.verify()
        made_by = open_bundle(bundle or find_bundle(opened), expect_fingerprint=expect_fingerprint, check_all=False)
        retriever = Retriever(
            opened, made_by, root=root, providers=providers, allow_fallback=allow_fallback, threads=threads
        )
        outputs.check_sheet(opened, retriever.root)
        modality = _modality_of(retriever, modality)
        answer = _ask(retriever, query, k, modality=modality, filters=filters, max_overlap=max_overlap)
        warn_of_unknown_words(retriever.encoder, query)
        if opened.tables_problem is not None:
            click.echo(opened.tables_problem, err=True)
    if answer.n_selected == 0:
        click.echo(f"the filters select no tile of {display_path(gallery)}", err=True)
    outputs.write(picture_or_text(query), answer.hits, fingerprint=made_by.fingerprint, n_bits=made_by.n_bits)
    if outputs.as_json:
        print_json({"query": picture_or_text(query), "parts": query.parts, **answer.as_json()})
    elif not outputs.uses_stdout:
        click.echo("\n".join(hits_table(answer.hits)))
    if not outputs.as_json:
        click.echo(answer.summary(filtered=filters is not None), err=True)
    if max_overlap is not None:
        _tell_of_overlap(answer, k)


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What a search found, in which time.

    Attributes:
        hits: by rank.
        n_tiles: of the gallery.
        n_selected: tiles that the filters let through.
        encode_ms: to load the model and code the query.
        search_ms: the search.
    """

    hits: list[Hit]
    n_tiles: int
    n_selected: int
    encode_ms: float
    search_ms: float

    def as_json(self) -> dict[str, Any]:
        return {
            "n_tiles": self.n_tiles,
            "n_selected": self.n_selected,
            "encode_ms": round(self.encode_ms, 3),
            "search_ms": round(self.search_ms, 3),
            "hits": [hit_as_json(hit) for hit in self.hits],
        }

    def summary(self, *, filtered: bool) -> str:
        tiles = f"{self.n_selected:,} selected tiles of {self.n_tiles:,}" if filtered else f"{self.n_tiles:,} tiles"
        return (
            f"{len(self.hits)} of {tiles}; {self.encode_ms:.1f} ms to load the model and code the query, "
            f"{self.search_ms:.1f} ms to search"
        )


def _modality_of(retriever: Retriever, modality: Modality | None) -> Modality:
    gallery = retriever.gallery
    if len(gallery) == 0:
        raise InputError(f"{display_path(gallery.folder)} holds no tiles; add some with `duch index`")
    if modality is not None and gallery.count(modality) == 0:
        raise InputError(f"{display_path(gallery.folder)} holds no {modality}s; search without --in {modality}")
    return modality or retriever.modality


def _ask(
    retriever: Retriever,
    query: Query,
    k: int,
    *,
    modality: Modality,
    filters: Filters | None,
    max_overlap: float | None,
) -> _Answer:
    from .combine import code_of

    gallery = retriever.gallery
    started = time.perf_counter()
    code = code_of(query, retriever.encoder, gallery, root=retriever.root)
    coded = time.perf_counter()
    hits = retriever.search_codes(
        code, k, modality=modality, filters=filters, max_overlap=max_overlap, without=query.own_tiles
    )[0]
    done = time.perf_counter()
    return _Answer(
        hits=hits,
        n_tiles=len(gallery),
        n_selected=gallery.count(modality, filters),
        encode_ms=1e3 * (coded - started),
        search_ms=1e3 * (done - coded),
    )


def _tell_of_overlap(answer: _Answer, k: int) -> None:
    from .suppress import MOST_SEEN

    if len(answer.hits) < k and answer.n_selected > MOST_SEEN:
        click.echo(f"of the nearest {MOST_SEEN:,} tiles all others overlap these; farther ones were not seen", err=True)
