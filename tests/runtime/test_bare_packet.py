"""PACKET.md is enough to read packets: its examples are true, and a reader written from it alone agrees with duch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from duch.answer import Answer
from duch.packet import QueryPacket

READER = Path(__file__).with_name("bare_packet.py")
PAGE = Path(__file__).parents[2] / "runtime" / "PACKET.md"

QUERY = QueryPacket(code=bytes.fromhex("8f30c1d2005a77e4"), bundle=bytes.fromhex("0011223344556677"))
CHIPS = ("a/harbour.tif#448,0,224,224", "a/port.tif#0,672,224,224", "a/harbour.tif#224,448,224,224")
EXAMPLES: list[QueryPacket | Answer] = [
    QUERY,
    Answer(query_crc=QUERY.crc, distances=(3, 3, 5), ids=CHIPS, cut=True),
    Answer(query_crc=QUERY.crc, distances=(3, 3, 5), seqs=(1204, 88016, 1377), cut=True),
]
MORE: list[QueryPacket | Answer] = [
    QueryPacket(code=bytes(255), bundle=b"\xff" * 8),
    Answer(query_crc=2**32 - 1, distances=(), ids=()),
    Answer(query_crc=0, distances=(2040,), ids=("näher\n#1,2,3,4",)),
    Answer(query_crc=0, distances=(0, 1), ids=("\0", "海港.png")),
    Answer(query_crc=1, distances=tuple(range(300, 700)), seqs=tuple(i**7 for i in range(400))),
    Answer(
        query_crc=1,
        distances=tuple(range(200)),
        ids=tuple(f"s{i % 3}.tif#{112 * (i * i % 83)},{112 * i},{256 + i % 2},256" for i in range(200)),
    ),
]


def in_the_page() -> list[bytes]:
    """Its packets: indented lines, and the first column of the table whose rows begin with bytes."""
    page = PAGE.read_text()
    query, by_seq = re.findall(r"^    ((?:[0-9a-f]{2} {0,2})+)$", page, re.MULTILINE)
    rows = re.findall(r"^\| ((?:[0-9a-f]{2}(?: &nbsp;)? )+)\|", page.partition("For example, three")[2], re.MULTILINE)
    by_id = "".join(rows).replace("&nbsp;", "")
    return [bytes.fromhex(text) for text in (query, by_id, by_seq)]


def said(packet: QueryPacket | Answer) -> dict[str, Any]:
    if isinstance(packet, QueryPacket):
        return {"bundle": packet.bundle.hex(), "code": packet.code.hex(), "crc": packet.to_bytes()[-4:].hex()}
    return {
        "crc": packet.query_crc.to_bytes(4, "little").hex(),
        "cut": packet.cut,
        "distances": list(packet.distances),
        "names": list(packet.ids or packet.seqs or ()),
    }


def run_reader(packets: list[bytes]) -> subprocess.CompletedProcess[str]:
    # -I: neither the current folder nor PYTHONPATH can smuggle anything in
    return subprocess.run(
        [sys.executable, "-I", READER],
        input="".join(f"{packet.hex()}\n" for packet in packets),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_examples_of_the_page_are_true() -> None:
    assert [type(packet).from_bytes(raw) for packet, raw in zip(EXAMPLES, in_the_page(), strict=True)] == EXAMPLES


def test_the_reader_agrees() -> None:
    packets = [*in_the_page(), *(packet.to_bytes() for packet in MORE)]
    done = run_reader(packets)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [said(packet) for packet in (*EXAMPLES, *MORE)]


@pytest.mark.parametrize("packet", [QUERY, EXAMPLES[1]])
def test_the_reader_finds_damage(packet: QueryPacket | Answer) -> None:
    damaged = bytearray(packet.to_bytes())
    damaged[10] ^= 4
    done = run_reader([bytes(damaged)])
    assert done.returncode == 1
    assert "CRC-32" in done.stderr
