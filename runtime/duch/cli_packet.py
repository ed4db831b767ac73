"""duch query, answer, hits: a search over a link of few bytes (PACKET.md)."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli_common import counted, open_bundle, print_json
from .display import display_path, printable
from .errors import InputError
from .hits_table import hit_as_json, hits_table
from .options import (
    PATH,
    content_of,
    expect_fingerprint_option,
    filter_options,
    max_overlap_option,
    modality_option,
    provider_options,
)
from .query_options import query_options, warn_of_unknown_words
from .search_outputs import Outputs, check_out, output_options

if TYPE_CHECKING:
    from .answer import Answer
    from .combine import Query
    from .filters import Filters
    from .packet import QueryPacket
    from .tile import Hit

# More than any packet has, also in hexadecimal: a stream without an end is not read to it.
_MOST_BYTES = 1 << 26
_MOST_HITS = 65_535  # `answer.MAX_HITS`; to import it would load numpy for --help
_SHOWN = 3  # names in a message

_out_option = click.option("-o", "--out", type=PATH, help="Write to this file; by default to stdout.")
_form_option = click.option(
    "--packet/--hex", "raw", default=True, help="Raw bytes, or hexadecimal for a text or voice link; by default raw."
)


@click.command(short_help="Code a query into a packet of some bytes, for an uplink.")
@query_options
@click.option("--bundle", type=PATH, help="The bundle; by default DUCH_BUNDLE, else the one that --gallery remembers.")
@click.option("--gallery", type=PATH, help="A copy of the gallery, for --tile and --not-tile.")
@_form_option
@_out_option
@provider_options
@expect_fingerprint_option
def query(
    query: Query,
    bundle: Path | None,
    gallery: Path | None,
    out: Path | None,
    providers: tuple[str, ...],
    threads: int,
    expect_fingerprint: str | None,
    *,
    raw: bool,
    allow_fallback: bool,
) -> None:
    """Code WORDS, or what else is to be found, into a packet that `duch answer` takes: 32 bytes at 128 bits.

    What is given is added up and taken away as in `duch search`. Tiles that are named are hits like others.
    """
    from contextlib import nullcontext

    from .combine import code_of
    from .encoder import Encoder
    from .gallery import Gallery
    from .packet import QueryPacket
    from .retriever import find_bundle

    _check_out(out, gallery, raw=raw)
    with nullcontext() if gallery is None else Gallery.open(gallery, threads=threads) as opened:
        encoder = Encoder(
            open_bundle(bundle or find_bundle(opened), expect_fingerprint=expect_fingerprint, check_all=False),
            providers=providers,
            allow_fallback=allow_fallback,
            threads=threads,
        )
        if opened is not None:
            opened.check_bundle(fingerprint=encoder.bundle.fingerprint, n_bits=encoder.n_bits)
        packet = QueryPacket.of(code_of(query, encoder, opened), fingerprint=encoder.bundle.fingerprint)
    warn_of_unknown_words(encoder, query)
    _write(packet.to_bytes(), out, raw=raw)
    click.echo(f"query {packet.crc:08x}: {len(packet.to_bytes())} bytes, {packet.n_bits} bits", err=True)


@click.command(short_help="Search with a query packet; needs no bundle.")
@click.argument("gallery", type=PATH)
@click.argument("packet", type=PATH)
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, _MOST_HITS), help="How many hits.")
@modality_option
@filter_options
@max_overlap_option
@click.option("--seq", "by_seq", is_flag=True, help="Name hits by number, for a ground station with the same gallery.")
@click.option("--max-bytes", type=click.IntRange(1), help="Leave out the farthest hits until the packet is no larger.")
@_form_option
@_out_option
@click.option("--threads", default=0, type=click.IntRange(0), help="Threads of the search; by default one a core.")
@click.pass_context
def answer(
    ctx: click.Context,
    gallery: Path,
    packet: Path,
    k: int,
    modality: Any,
    filters: Filters | None,
    max_overlap: float | None,
    max_bytes: int | None,
    out: Path | None,
    threads: int,
    *,
    by_seq: bool,
    raw: bool,
) -> None:
    """Search GALLERY with the packet that `duch query` wrote, and write the hits as a packet.

    PACKET is a file, raw or in hexadecimal, or - for stdin. Neither bundle nor model is needed.
    """
    from .answering import answer_query
    from .gallery import Gallery

    if str(packet) == "-" and "-" in map(str, (ctx.params["geometry"], ctx.params["ids_file"])):
        raise InputError("both PACKET and a filter read stdin; wanted a file for one of them")
    asked = _read_query(packet)
    _check_out(out, gallery, raw=raw)
    with Gallery.open(gallery, threads=threads) as opened:
        found = answer_query(
            opened, asked, k, modality=modality, filters=filters, max_overlap=max_overlap, by_seq=by_seq
        )
        if opened.tables_problem is not None:
            click.echo(opened.tables_problem, err=True)
    sent = found if max_bytes is None else found.fitted(max_bytes)
    content = sent.to_bytes()
    _write(content, out, raw=raw)
    cut = f", {len(found) - len(sent)} more cut" if sent.cut else ""
    click.echo(f"answer to query {asked.crc:08x}: {len(content)} bytes, {counted(len(sent), 'hit')}{cut}", err=True)


@click.command(short_help="Print the hits of an answer packet.")
@click.argument("packet", metavar="ANSWER", type=PATH)
@click.option("--query", "query_file", type=PATH, help="The packet that was asked: refuse the answer to another one.")
@click.option("--gallery", type=PATH, help="A copy of the gallery that answered, to tell what it knows of the hits.")
@click.option("--root", type=PATH, help="Folder of the image files; by default the one the gallery remembers.")
@output_options
def hits(packet: Path, query_file: Path | None, gallery: Path | None, root: Path | None, outputs: Outputs) -> None:
    """Print the hits of ANSWER, a packet that `duch answer` wrote: a file, raw or in hexadecimal, or - for stdin.

    With --query and --gallery it tells all that the gallery knows of them, and writes what `duch search` writes.
    """
    from .answer import Answer
    from .answering import check_query
    from .packet import bytes_of

    if str(packet) == str(query_file) == "-":
        raise InputError("both ANSWER and --query read stdin; wanted a file for one of them")
    if gallery is not None and query_file is None:
        raise InputError("--gallery without --query; wanted the packet that was asked too, to compare the gallery with")
    if gallery is None and outputs != replace(Outputs(), as_json=outputs.as_json):
        raise InputError("no --gallery, which knows the places of the hits; wanted a copy of the one that answered")
    received = Answer.from_bytes(bytes_of(_read(packet)))
    asked = None if query_file is None else _read_query(query_file)
    if asked is not None:
        check_query(received, asked)
    known: list[Hit | None] = [None] * len(received)
    if asked is not None and gallery is not None:
        outputs.check(gallery, [packet, *filter(None, [query_file])])
        known = _write_known(received, asked, gallery, root, outputs)
    rows = [_bare_row(received, place) if hit is None else hit_as_json(hit) for place, hit in enumerate(known)]
    if outputs.as_json:
        print_json({"query_crc": f"{received.query_crc:08x}", "cut": received.cut, "hits": rows})
    elif not outputs.uses_stdout:
        click.echo("\n".join(_bare_table(received) if gallery is None else hits_table([*filter(None, known)])))
    cut = "; there were more" if received.cut else ""
    click.echo(f"{counted(len(received), 'hit')} of query {received.query_crc:08x}{cut}", err=True)


def _write_known(
    received: Answer, asked: QueryPacket, gallery: Path, root: Path | None, outputs: Outputs
) -> list[Hit | None]:
    """What a copy of the gallery knows of the hits, written to files as well; None for those that it does not know."""
    from .answering import hits_of
    from .gallery import Gallery
    from .pictures import path_of

    with Gallery.open(gallery) as opened:
        below = root or opened.root
        outputs.check_sheet(opened, below)
        known = [
            None if hit is None else replace(hit, path=path_of(hit, below)) for hit in hits_of(received, opened, asked)
        ]
        fingerprint, n_bits = opened.fingerprint, opened.n_bits
    outputs.write(f"query {asked.crc:08x}", [*filter(None, known)], fingerprint=fingerprint, n_bits=n_bits)
    if missing := [str(name) for name, hit in zip(received.names, known, strict=True) if hit is None]:
        more = ", ..." if len(missing) > _SHOWN else ""
        shown = printable(", ".join(missing[:_SHOWN]))
        click.echo(f"{display_path(gallery)} has no tile for {len(missing)} of the hits: {shown}{more}", err=True)
    return known


def _bare_row(answer: Answer, place: int) -> dict[str, Any]:
    """All that an answer says of a hit."""
    return {"rank": place + 1, "distance": answer.distances[place], answer.kind: answer.names[place]}


def _bare_table(answer: Answer) -> list[str]:
    lines = [
        f"{rank:>4} {distance:>8}  {printable(str(name))}"
        for rank, (distance, name) in enumerate(zip(answer.distances, answer.names, strict=True), 1)
    ]
    return [f"{'rank':>4} {'distance':>8}  {answer.kind}", *lines]


def _read_query(file: Path) -> QueryPacket:
    from .packet import QueryPacket, bytes_of

    return QueryPacket.from_bytes(bytes_of(_read(file)))


def _read(file: Path) -> bytes:
    return content_of(file, "a packet", _MOST_BYTES)


def _check_out(out: Path | None, gallery: Path | None, *, raw: bool) -> None:
    """Refuse bytes that would garble a terminal, go nowhere or into the gallery, before a model is loaded.

    Raises:
        InputError: stdout is a terminal, or closed; a file that cannot be, or is inside the gallery.
        PermissionError: a folder that cannot be written to.
    """
    if out is not None:
        check_out(out, gallery)
        return
    if sys.stdout is None:
        raise InputError("stdout is closed; wanted --out FILE, or > FILE")
    if raw and sys.stdout.isatty():
        raise InputError("stdout is a terminal, and a packet is raw bytes; wanted --hex, --out FILE, or > FILE")


def _write(packet: bytes, out: Path | None, *, raw: bool) -> None:
    from .durable import replacing

    content = packet if raw else packet.hex().encode("ascii") + b"\n"
    if out is None:
        click.echo(content, nl=False)
        return
    with replacing(out) as file:
        file.write(content)
