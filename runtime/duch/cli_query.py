"""duch encode, search: codes of sentences and images, and the tiles nearest to them."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli_common import open_bundle, print_json
from .display import display_path, printable
from .errors import ConfigError, InputError, one_line
from .options import PATH, expect_fingerprint_option, filter_options, provider_options

if TYPE_CHECKING:
    from .filters import Filters
    from .retriever import Retriever
    from .tile import Hit

_MOST_HITS = 1_000_000  # more would be a slip of the keyboard


@click.command()
@click.argument("bundle", type=PATH)
@click.option("--text", "texts", multiple=True, help="A sentence; may be given again.")
@click.option("--image", "images", multiple=True, type=PATH, help="An image file; may be given again.")
@click.option("--npy", type=PATH, help="Write the packed codes, uint8 (n, n_bits / 8), to this file.")
@provider_options
@expect_fingerprint_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def encode(
    bundle: Path,
    texts: tuple[str, ...],
    images: tuple[Path, ...],
    npy: Path | None,
    providers: tuple[str, ...],
    threads: int,
    expect_fingerprint: str | None,
    *,
    allow_fallback: bool,
    as_json: bool,
) -> None:
    """Print the codes of sentences and images, in hexadecimal, sentences first."""
    import numpy as np

    from .durable import replacing
    from .encoder import Encoder

    if not texts and not images:
        raise InputError("nothing to encode; wanted --text or --image")
    encoder = Encoder(
        open_bundle(bundle, expect_fingerprint=expect_fingerprint, check_all=False),
        providers=providers,
        allow_fallback=allow_fallback,
        threads=threads,
    )
    codes = np.concatenate([encoder.encode_texts(texts), encoder.encode_images(images)])
    names: list[str | Path] = [*texts, *images]
    if npy is not None:
        with replacing(npy) as file:
            np.save(file, codes, allow_pickle=False)
        click.echo(f"wrote {len(codes)} codes of {encoder.n_bits} bits to {display_path(npy)}", err=True)
    if as_json:
        rows = [{"input": name, "code": code.tobytes().hex()} for name, code in zip(names, codes, strict=True)]
        print_json({"n_bits": encoder.n_bits, "fingerprint": encoder.bundle.fingerprint, "codes": rows})
    elif npy is None:
        for name, code in zip(names, codes, strict=True):
            click.echo(f"{code.tobytes().hex()}  {printable(name) if isinstance(name, str) else display_path(name)}")


@click.command()
@click.argument("gallery", type=PATH)
@click.argument("words", required=False)
@click.option("--image", type=PATH, help="Search with this image instead of words.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, _MOST_HITS), help="How many hits.")
@click.option(
    "--in",
    "modality",
    type=click.Choice(["image", "text"]),
    help="Find only images or only sentences; by default images, or sentences where there are no images.",
)
@filter_options
@click.option("--bundle", type=PATH, help="The bundle; by default DUCH_BUNDLE, else the one the gallery remembers.")
@click.option("--root", type=PATH, help="Folder of the image files; by default the one the gallery remembers.")
@click.option("--verify", is_flag=True, help="Check every code, column and value of the gallery first.")
@click.option("--sheet", type=PATH, help="Draw query and hits into this picture (PNG, JPEG ...).")
@provider_options
@expect_fingerprint_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def search(
    gallery: Path,
    words: str | None,
    image: Path | None,
    k: int,
    modality: Any,
    filters: Filters | None,
    bundle: Path | None,
    root: Path | None,
    sheet: Path | None,
    providers: tuple[str, ...],
    threads: int,
    expect_fingerprint: str | None,
    *,
    verify: bool,
    allow_fallback: bool,
    as_json: bool,
) -> None:
    """Find the tiles of GALLERY nearest to WORDS, or to an image."""
    from .gallery import Gallery
    from .retriever import Retriever, find_bundle

    if (words is None) == (image is None):
        raise InputError("wanted either words or --image, and one of them only")
    if sheet is not None:
        _check_picture(sheet, image)
    query: Any = words if image is None else image
    with Gallery.open(gallery, threads=threads) as opened:
        if verify:
            opened.verify()
        made_by = open_bundle(bundle or find_bundle(opened), expect_fingerprint=expect_fingerprint, check_all=False)
        retriever = Retriever(
            opened, made_by, root=root, providers=providers, allow_fallback=allow_fallback, threads=threads
        )
        if len(opened) == 0:
            raise InputError(f"{display_path(gallery)} holds no tiles; add some with `duch index`")
        modality = modality or retriever.modality
        if opened.count(modality) == 0:
            raise InputError(f"{display_path(gallery)} holds no {modality}s; search without --in {modality}")
        started = time.perf_counter()
        encode = retriever.encoder.encode_texts if image is None else retriever.encoder.encode_images
        codes = encode([query])
        coded = time.perf_counter()
        hits = retriever.search_codes(codes, k, modality=modality, filters=filters)[0]
        done = time.perf_counter()
        n_selected = opened.count(modality, filters)
        if words is not None:
            _warn_of_unknown_words(retriever, words)
        times = {"encode_ms": 1e3 * (coded - started), "search_ms": 1e3 * (done - coded)}
        n_tiles = len(opened)
        if opened.tables_problem is not None:
            click.echo(opened.tables_problem, err=True)
    if n_selected == 0:
        click.echo(f"the filters select no tile of {display_path(gallery)}", err=True)
    if sheet is not None:
        _draw(sheet, query, hits)
    if as_json:
        rounded = {name: round(value, 3) for name, value in times.items()}
        counts = {"n_tiles": n_tiles, "n_selected": n_selected}
        print_json({"query": query, **counts, **rounded, "hits": [_hit(hit) for hit in hits]})
        return
    click.echo(f"{'rank':>4} {'distance':>8}  id")
    for hit in hits:
        text = f"  {printable(hit.text)}" if hit.text else ""
        click.echo(f"{hit.rank:>4} {hit.distance:>8}  {printable(hit.id)}{text}")
    of_tiles = f"{n_tiles:,} tiles" if filters is None else f"{n_selected:,} selected tiles of {n_tiles:,}"
    click.echo(
        f"{len(hits)} of {of_tiles}; {times['encode_ms']:.1f} ms to load the model and code the query, "
        f"{times['search_ms']:.1f} ms to search",
        err=True,
    )


def _warn_of_unknown_words(retriever: Retriever, words: str) -> None:
    unknown = retriever.encoder.unknown_words(words)
    if unknown:
        click.echo(f"the model has no way to spell {', '.join(map(repr, unknown))}, and does not see it", err=True)


def _check_picture(path: Path, query: Path | None) -> None:
    from PIL import Image

    Image.init()
    name = display_path(path)
    if Image.EXTENSION.get(path.suffix.lower()) not in Image.SAVE:
        raise ConfigError(f"{name} ends in {path.suffix!r}, no picture format that is written; wanted .png or .jpg")
    if not path.parent.is_dir():
        raise ConfigError(f"folder {display_path(path.parent)} does not exist, so {name} cannot be drawn there")
    if query is not None and path.exists() and query.exists() and path.samefile(query):
        raise ConfigError(f"{name} is the image of the query, which the sheet would replace; wanted another file")


def _draw(path: Path, query: Any, hits: list[Hit]) -> None:
    from PIL import Image

    from .durable import replacing
    from .sheet import contact_sheet

    sheet = contact_sheet(query, hits)
    with replacing(path) as file:
        try:
            sheet.save(file, Image.EXTENSION[path.suffix.lower()])
        except OSError:
            raise
        except Exception as error:  # what a format cannot hold, its writer says in its own way
            raise ConfigError(f"{display_path(path)} cannot be drawn: {one_line(error)}; wanted .png") from error
    click.echo(f"drew {display_path(path)}", err=True)


def _hit(hit: Hit) -> dict[str, Any]:
    return {name: value for name, value in asdict(hit).items() if value not in (None, {})}
