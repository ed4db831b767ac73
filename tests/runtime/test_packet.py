"""Query packets: their bytes, what is refused and in which order, and every damage."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duch.errors import CodesError, PacketError
from duch.packet import QueryPacket, bytes_of

FINGERPRINT = "00112233445566778899aabbccddeeff" * 2
packets = st.builds(QueryPacket, code=st.binary(min_size=1, max_size=255), bundle=st.binary(min_size=8, max_size=8))


def some_packet(n_bits: int = 64) -> bytes:
    code = np.arange(n_bits // 8, dtype=np.uint8)[None]
    return QueryPacket.of(code, fingerprint=FINGERPRINT).to_bytes()


def resealed(packet: bytes, place: int, byte: int) -> bytes:
    """The packet with another byte, and the CRC-32 that belongs to it."""
    content = packet[:place] + bytes([byte]) + packet[place + 1 : -4]
    return content + struct.pack("<I", zlib.crc32(content))


@pytest.mark.parametrize(("n_bits", "size"), [(8, 17), (64, 24), (128, 32), (2040, 271)])
def test_the_sizes_that_are_promised(n_bits: int, size: int) -> None:
    packet = some_packet(n_bits)
    assert len(packet) == size
    code = bytes(range(n_bits // 8))
    content = b"DQ\x01" + bytes([n_bits // 8]) + bytes.fromhex("0011223344556677") + code
    assert packet == content + struct.pack("<I", zlib.crc32(content))


@given(packets)
def test_round_trip(packet: QueryPacket) -> None:
    content = packet.to_bytes()
    assert QueryPacket.from_bytes(content) == packet
    assert len(content) == packet.n_bits // 8 + 16
    assert packet.crc == zlib.crc32(content[:-4])


@settings(max_examples=20)
@given(packets)
def test_every_flipped_bit_and_every_cut_is_refused(packet: QueryPacket) -> None:
    content = packet.to_bytes()
    for place in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(PacketError):
            QueryPacket.from_bytes(bytes(damaged))
    for size in range(len(content)):
        with pytest.raises(PacketError):
            QueryPacket.from_bytes(content[:size])
    with pytest.raises(PacketError):
        QueryPacket.from_bytes(content + b"\0")


PACKET = some_packet()


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (b"", "0 bytes are no packet; wanted a query packet, which has at least 17"),
        (
            b"\x89PNG" + PACKET,
            "this is no packet, as it begins with the bytes 89 50; wanted a query packet, which begins with 44 51",
        ),
        (b"DA" + PACKET[2:], "this is an answer packet; wanted a query packet"),
        (resealed(PACKET, 2, 2), "a query packet of version 2; this duch reads version 1"),
        (resealed(PACKET, 3, 16), "has 24 bytes and says 128 bits, which take 32"),
        (resealed(PACKET, 3, 0), "says 0 bits"),
        (PACKET + b"\n", "has 25 bytes and says 64 bits, which take 24"),
        (PACKET[:-1] + bytes([PACKET[-1] ^ 1]), "the packet is damaged: CRC-32"),
    ],
)
def test_what_is_refused_and_how_it_is_told(packet: bytes, words: str) -> None:
    with pytest.raises(PacketError) as caught:
        QueryPacket.from_bytes(packet)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_version_and_length_are_told_before_the_checksum() -> None:
    wrong = PACKET[:-1] + bytes([PACKET[-1] ^ 1])
    with pytest.raises(PacketError, match="version 9"):
        QueryPacket.from_bytes(wrong[:2] + b"\x09" + wrong[3:])
    with pytest.raises(PacketError, match="which take 24"):
        QueryPacket.from_bytes(wrong[:-2])


@given(st.binary(max_size=300) | st.binary(max_size=290).map(lambda rest: b"DQ\x01" + rest))
def test_arbitrary_bytes_are_a_packet_or_refused(data: bytes) -> None:
    try:
        packet = QueryPacket.from_bytes(bytes_of(data))
    except PacketError:
        return
    assert packet.to_bytes() == bytes_of(data)


@pytest.mark.parametrize(
    "codes", [np.zeros((2, 8), np.uint8), np.zeros((0, 8), np.uint8), np.zeros((1, 256), np.uint8)]
)
def test_codes_that_no_packet_holds(codes: np.ndarray) -> None:
    with pytest.raises(CodesError):
        QueryPacket.of(codes, fingerprint=FINGERPRINT)


@given(packets, st.sampled_from(["", " ", "\n", "\r\n\t "]), st.booleans())
def test_hexadecimal_is_the_same_packet(packet: QueryPacket, space: str, upper: bool) -> None:
    content = packet.to_bytes()
    text = space + space.join(f"{byte:02x}" for byte in content) + space
    assert bytes_of((text.upper() if upper else text).encode()) == content
    assert bytes_of(content) == content


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("4451 01O8", "digit 7 of the packet is 'O'; wanted hexadecimal"),
        ("44510", "has 5 hexadecimal digits"),
    ],
)
def test_mistyped_hexadecimal(text: str, words: str) -> None:
    with pytest.raises(PacketError) as caught:
        bytes_of(text.encode())
    assert words in str(caught.value)
