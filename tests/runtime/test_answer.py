"""Answer packets: back as they were, in few bytes, and nothing but one line for what is damaged or malicious."""

from __future__ import annotations

import json
import random
import tracemalloc
import zlib
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duch.answer import MAX_HITS, MAX_TEXT, Answer
from duch.errors import PacketError
from duch.ids import Window, chip_id
from duch.packed_numbers import number, numbers
from duch.packet import sealed

edges = st.integers(-3, 20_000) | st.just(999_999_999)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
windows = st.builds(Window, edges, edges, st.just(224), st.sampled_from([224, 100]))
chips = st.builds(chip_id, names | st.just("a/scene.tif"), windows)
odd = st.sampled_from(
    ["#1,2,3,4", "a#01,2,3,4", "a#1,2,3,4#5,6,7,8", "a#1,2,3,4\n", "a#١,2,3,4", "\0", "\xff", "a#1,2,3"]
)
ids = st.lists(names, max_size=20) | st.lists(chips, max_size=20) | st.lists(names | chips | odd, max_size=20)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    by_id = draw(st.booleans())
    found: list[Any] = draw(ids if by_id else st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 99), max_size=20))
    steps = draw(st.lists(st.sampled_from([0, 0, 0, 1, 2, 30]), min_size=len(found), max_size=len(found)))
    return Answer(
        query_crc=draw(st.integers(0, 2**32 - 1)),
        distances=tuple(accumulate(steps)),
        ids=tuple(found) if by_id else None,
        seqs=None if by_id else tuple(found),
        cut=draw(st.booleans()),
    )


def some_answer(n: int, **more: Any) -> Answer:
    """Chips of three scenes, as a search finds them."""
    draw = random.Random(5).randrange
    tile_ids = tuple(f"2024/S2A_2024{draw(3):02}15T10.tif#{168 * draw(59)},{168 * draw(59)},224,224" for _ in range(n))
    return Answer(query_crc=0x40769170, distances=tuple(12 + i // 4 for i in range(n)), ids=tile_ids, **more)


@settings(max_examples=300)
@given(answers())
def test_round_trip(answer: Answer) -> None:
    assert Answer.from_bytes(answer.to_bytes()) == answer


@settings(max_examples=25)
@given(answers())
def test_every_flipped_bit_and_every_cut_is_refused(answer: Answer) -> None:
    content = answer.to_bytes()
    for place in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(PacketError):
            Answer.from_bytes(bytes(damaged))
    for size in range(len(content)):
        with pytest.raises(PacketError):
            Answer.from_bytes(content[:size])


def test_no_hits_take_13_bytes() -> None:
    content = Answer(query_crc=0x01020304, distances=(), ids=()).to_bytes()
    assert content == sealed(b"DA\x01\x00\x04\x03\x02\x01\x00")


@pytest.mark.parametrize("n", [10, 50, 1000])
def test_chips_take_a_small_part_of_their_json(n: int) -> None:
    answer = some_answer(n)
    hits = [{"distance": far, "id": name} for far, name in zip(answer.distances, answer.ids or (), strict=True)]
    assert len(answer.to_bytes()) * 7 < len(json.dumps(hits))
    joined = zlib.compress("\n".join(answer.ids or ()).encode(), 9)
    assert len(answer.to_bytes()) < len(joined)
    by_seq = replace(answer, ids=None, seqs=tuple(random.Random(6).choices(range(10**6), k=n)))
    assert len(by_seq.to_bytes()) < 4 * n + 20


@given(answers(), st.integers(1, 300))
def test_as_many_hits_as_fit(answer: Answer, max_bytes: int) -> None:
    try:
        fitted = answer.fitted(max_bytes)
    except PacketError:
        assert len(first(answer, 1).to_bytes()) > max_bytes
        return
    n = len(fitted)
    assert len(fitted.to_bytes()) <= max_bytes
    assert fitted.cut == (answer.cut or n < len(answer))
    assert (fitted.ids or fitted.seqs or ()) == (answer.ids or answer.seqs or ())[:n]
    assert fitted.distances == answer.distances[:n]
    if n < len(answer):
        assert len(first(answer, n + 1).to_bytes()) > max_bytes


def first(answer: Answer, n: int) -> Answer:
    ids = None if answer.ids is None else answer.ids[:n]
    seqs = None if answer.seqs is None else answer.seqs[:n]
    return replace(answer, distances=answer.distances[:n], ids=ids, seqs=seqs)


@pytest.mark.parametrize("max_bytes", [1, 13])
def test_a_frame_too_small_for_one_hit_is_an_error(max_bytes: int) -> None:
    with pytest.raises(PacketError, match=f"not {max_bytes}; wanted more room, or seqs"):
        some_answer(3).fitted(max_bytes)


# --- packets with a right CRC-32 that duch never wrote ---

HEAD = b"DA\x01"
CRC = b"\1\2\3\4"


def texts(raw: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(raw) + deflate.flush()


SAME = numbers([7] * 3)  # a list of any length, as it is 0 bits wide
ONE = number(1) + number(3) + numbers([])

HOSTILE = {
    "2**60 hits": (b"\0", number(2**60) + number(0) + SAME + SAME, "wanted 65,535 at most"),
    "65,536 hits": (b"\2", number(65_536) + number(0) + SAME + SAME, "wanted 65,535 at most"),
    "a count without end": (b"\0", b"\xff" * 40, "more than 63 bits"),
    "flags of later versions": (b"\3", b"\0", "flags 0x03"),
    "another flag": (b"\x40", b"\0", "flags 0x40"),
    "bits beyond the end": (b"\2", number(65_535) + number(0) + b"\0\x3f", "more than its"),
    "seqs beyond 63 bits": (b"\2", number(1) + number(0) + SAME + number(2**63 - 1) + b"\x01\x80", "more than 63 bits"),
    "numbers 64 bits wide": (b"\2", number(1) + number(0) + SAME + b"\0\x40" + bytes(8), "64 bits wide"),
    "distances beyond all codes": (b"\2", number(1) + number(2041) + SAME + SAME, "2040 bits"),
    "bytes after the last hit": (b"\2", ONE + SAME + b"\0", "goes on after its last hit"),
    "no deflate": (b"\0", ONE + b"\xff\xff", "cannot be read"),
    "deflate that is cut": (b"\0", ONE + texts(b"a" * 99)[:-1], "does not hold 1 ids"),
    "bytes after deflate": (b"\0", ONE + texts(b"a") + b"a", "does not hold 1 ids"),
    "no UTF-8": (b"\0", ONE + texts(b"\xc3"), "cannot be read"),
    "two ids for one hit": (b"\0", ONE + texts(b"a\xffb"), "does not hold 1 ids"),
    "a scene that is not there": (
        b"\1",
        ONE + number(1) + SAME + number(1) + SAME * 2 + texts(b"a#1,1"),
        "scene 7 of 1",
    ),
    "more scenes than hits": (b"\1", ONE + number(9) + SAME + number(1) + SAME * 2 + texts(b"a#1,1"), "of 9"),
}


@pytest.mark.parametrize(("flags", "content", "words"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_malicious_packet_is_refused(flags: bytes, content: bytes, words: str) -> None:
    with pytest.raises(PacketError) as caught:
        Answer.from_bytes(sealed(HEAD + flags + CRC + content))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


BOMBS = {
    "deflate": (b"\0", ONE + texts(bytes(4 * MAX_TEXT))),
    "separators": (b"\0", ONE + texts(b"\xff" * 2 * MAX_TEXT)),
    "one scene for all chips": (
        b"\1",
        number(MAX_HITS)
        + number(3)
        + SAME
        + number(1)
        + numbers([0])
        + number(1)
        + SAME * 2
        + texts(b"a" * 10**6 + b"#1"),
    ),
    "one size for all chips": (
        b"\1",
        number(MAX_HITS)
        + number(3)
        + SAME
        + number(1)
        + numbers([0])
        + number(1)
        + SAME * 2
        + texts(b"#" + b"1" * 10**6),
    ),
}


@pytest.mark.parametrize(("flags", "content"), BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_before_it_takes_memory(flags: bytes, content: bytes) -> None:
    packet = sealed(HEAD + flags + CRC + content)
    assert len(packet) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(PacketError):
            Answer.from_bytes(packet)
        assert tracemalloc.get_traced_memory()[1] < 6 * MAX_TEXT
    finally:
        tracemalloc.stop()


@settings(max_examples=300)
@given(st.sampled_from([b"\0", b"\1", b"\2", b"\x81"]), st.binary(max_size=80))
def test_any_content_is_an_answer_or_refused(flags: bytes, content: bytes) -> None:
    try:
        answer = Answer.from_bytes(sealed(HEAD + flags + CRC + content))
    except PacketError:
        return
    assert Answer.from_bytes(answer.to_bytes()) == answer


@pytest.mark.parametrize("data", [b"", b"DA", b"DQ" + bytes(30), b"DA\x02" + bytes(30), b"{}" * 40])
def test_what_is_no_answer_packet(data: bytes) -> None:
    with pytest.raises(PacketError, match=r"wanted an answer packet|reads version 1"):
        Answer.from_bytes(data)


@pytest.mark.parametrize(
    "fields",
    [
        {"ids": ("a",), "distances": ()},
        {"ids": ("a",), "seqs": (1,), "distances": (1,)},
        {"distances": ()},
        {"ids": ("a", "b"), "distances": (2, 1)},
        {"ids": ("a",), "distances": (-1,)},
        {"seqs": (1,) * 65_536, "distances": (1,) * 65_536},
    ],
)
def test_what_no_packet_can_say(fields: dict[str, Any]) -> None:
    with pytest.raises(PacketError):
        Answer(query_crc=0, **fields)


def test_ids_that_cannot_be_sent() -> None:
    with pytest.raises(PacketError, match="no UTF-8"):
        Answer(query_crc=0, distances=(1,), ids=("\ud800",)).to_bytes()
    with pytest.raises(PacketError, match="ask for fewer hits"):
        Answer(query_crc=0, distances=(1,), ids=("a" * (MAX_TEXT + 1),)).to_bytes()
