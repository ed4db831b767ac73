"""duch query, answer, hits: a search over a link of few bytes (PACKET.md)."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli_common import open_bundle, print_json
from .display import display_path, printable
from .errors import BundleError, InputError
from .options import PATH, Number, expect_fingerprint_option, filter_options, provider_options

if TYPE_CHECKING:
    from .answer import Answer
    from .filters import Filters
    from .packet import QueryPacket
    from .tile import Hit

# More than any packet has, also in hexadecimal: a stream without an end is not read to it.
_MOST_BYTES = 1 << 26
_MOST_HITS = 65_535  # of an answer packet

_out_option = click.option("-o", "--out", type=PATH, help="Write to this file; by default to stdout.")
_form_option = click.option(
    "--packet/--hex", "raw", default=True, help="Raw bytes, or hexadecimal for a text or voice link; by default raw."
)


@click.command(short_help="Code a query into a packet of some bytes, for an uplink.")
@click.argument("words", required=False)
@click.option("--image", type=PATH, help="Ask with this image instead of words.")
@click.option("--bundle", type=PATH, help="The bundle; by default DUCH_BUNDLE.")
@_form_option
@_out_option
@provider_options
@expect_fingerprint_option
def query(
    words: str | None,
    image: Path | None,
    bundle: Path | None,
    out: Path | None,
    providers: tuple[str, ...],
    threads: int,
    expect_fingerprint: str | None,
    *,
    raw: bool,
    allow_fallback: bool,
) -> None:
    """Code WORDS, or an image, into a packet that `duch answer` takes: 32 bytes at 128 bits."""
    from .encoder import Encoder
    from .packet import QueryPacket
    from .retriever import BUNDLE_VARIABLE

    if (words is None) == (image is None):
        raise InputError("wanted either words or --image, and one of them only")
    named = bundle or (Path(path) if (path := os.environ.get(BUNDLE_VARIABLE)) else None)
    if named is None:
        raise BundleError(f"no bundle to code the query with; name it with --bundle or {BUNDLE_VARIABLE}")
    _check_stdout(out, raw=raw)
    encoder = Encoder(
        open_bundle(named, expect_fingerprint=expect_fingerprint, check_all=False),
        providers=providers,
        allow_fallback=allow_fallback,
        threads=threads,
    )
    if image is not None:
        codes = encoder.encode_images([image])
    else:
        codes = encoder.encode_texts([words or ""])
        if unknown := encoder.unknown_words(words or ""):
            click.echo(f"the model has no way to spell {', '.join(map(repr, unknown))}, and does not see it", err=True)
    packet = QueryPacket.of(codes, fingerprint=encoder.bundle.fingerprint)
    _write(packet.to_bytes(), out, raw=raw)
    click.echo(f"query {packet.crc:08x}: {len(packet.to_bytes())} bytes, {packet.n_bits} bits", err=True)


@click.command(short_help="Search with a query packet; needs no bundle.")
@click.argument("gallery", type=PATH)
@click.argument("packet", type=PATH)
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, _MOST_HITS), help="How many hits.")
@click.option(
    "--in",
    "modality",
    type=click.Choice(["image", "text"]),
    help="Find only images or only sentences; by default images, or sentences where there are no images.",
)
@filter_options
@click.option(
    "--max-overlap",
    type=Number(0, 1),
    metavar="SHARE",
    help="Leave out a hit that shares more than this part of its ground with a nearer one; 0: any ground.",
)
@click.option("--seq", "by_seq", is_flag=True, help="Name hits by number, for a ground station with the same gallery.")
@click.option("--max-bytes", type=click.IntRange(1), help="Leave out the farthest hits until the packet is no larger.")
@_form_option
@_out_option
@click.option("--threads", default=0, type=click.IntRange(0), help="Threads of the search; by default one a core.")
def answer(
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

    asked = _read_query(packet)
    _check_stdout(out, raw=raw)
    with Gallery.open(gallery, threads=threads) as opened:
        found = answer_query(
            opened, asked, k, modality=modality, filters=filters, max_overlap=max_overlap, by_seq=by_seq
        )
    sent = found if max_bytes is None else found.fitted(max_bytes)
    content = sent.to_bytes()
    _write(content, out, raw=raw)
    cut = f", {len(found) - len(sent)} more cut" if sent.cut else ""
    click.echo(f"answer to query {asked.crc:08x}: {len(content)} bytes, {len(sent)} hits{cut}", err=True)


@click.command(short_help="Print the hits of an answer packet.")
@click.argument("packet", metavar="ANSWER", type=PATH)
@click.option("--query", "query_file", type=PATH, help="The packet that was asked: refuse the answer to another one.")
@click.option("--gallery", type=PATH, help="A copy of the gallery that answered, to tell what it knows of the hits.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def hits(packet: Path, query_file: Path | None, gallery: Path | None, *, as_json: bool) -> None:
    """Print the hits of ANSWER, a packet that `duch answer` wrote: a file, raw or in hexadecimal, or - for stdin."""
    from .answer import Answer
    from .answering import check_query, hits_of
    from .packet import bytes_of

    if gallery is not None and query_file is None:
        raise InputError("--gallery without --query; wanted the packet that was asked too, to compare the gallery with")
    received = Answer.from_bytes(bytes_of(_read(packet)))
    asked = None if query_file is None else _read_query(query_file)
    known: list[Hit | None] = [None] * len(received)
    if asked is not None:
        check_query(received, asked)
    if asked is not None and gallery is not None:
        from .gallery import Gallery

        with Gallery.open(gallery) as opened:
            known = hits_of(received, opened, asked)
        if missing := known.count(None):
            click.echo(f"{display_path(gallery)} has no tile for {missing} of the hits", err=True)
    rows = _rows(received, known)
    if as_json:
        print_json({"query_crc": f"{received.query_crc:08x}", "cut": received.cut, "hits": rows})
        return
    named = any("id" in row for row in rows)
    click.echo(f"{'rank':>4} {'distance':>8}  {'id' if named else 'seq'}")
    for row in rows:
        name = printable(row["id"]) if "id" in row else f"{'seq ' if named else ''}{row['seq']}"
        text = f"  {printable(row['text'])}" if "text" in row else ""
        click.echo(f"{row['rank']:>4} {row['distance']:>8}  {name}{text}")
    cut = "; there were more" if received.cut else ""
    click.echo(f"{len(rows)} hits of query {received.query_crc:08x}{cut}", err=True)


def _rows(answer: Answer, known: list[Hit | None]) -> list[dict[str, Any]]:
    """What is known of each hit, as `duch search --json` has it."""
    rows: list[dict[str, Any]] = []
    for place, (distance, hit) in enumerate(zip(answer.distances, known, strict=True)):
        row: dict[str, Any] = {"rank": place + 1, "distance": distance}
        if hit is not None:
            row |= {name: value for name, value in asdict(hit).items() if value not in (None, {})}
        elif answer.ids is not None:
            row["id"] = answer.ids[place]
        elif answer.seqs is not None:
            row["seq"] = answer.seqs[place]
        rows.append(row)
    return rows


def _read_query(file: Path) -> QueryPacket:
    from .packet import QueryPacket, bytes_of

    return QueryPacket.from_bytes(bytes_of(_read(file)))


def _read(file: Path) -> bytes:
    if str(file) != "-":
        with file.open("rb") as stream:
            return stream.read(_MOST_BYTES)
    if sys.stdin is None:  # as Python has it where the shell closed it
        raise InputError("stdin is closed; wanted a packet")
    return sys.stdin.buffer.read(_MOST_BYTES)


def _check_stdout(out: Path | None, *, raw: bool) -> None:
    """Refuse bytes that would garble a terminal, before a model is loaded.

    Raises:
        InputError: stdout is a terminal.
    """
    if raw and out is None and sys.stdout.isatty():
        raise InputError("stdout is a terminal, and a packet is raw bytes; wanted --hex, --out FILE, or > FILE")


def _write(packet: bytes, out: Path | None, *, raw: bool) -> None:
    from .durable import replacing

    content = packet if raw else packet.hex().encode("ascii") + b"\n"
    if out is None:
        click.echo(content, nl=False)
        return
    with replacing(out) as file:
        file.write(content)
