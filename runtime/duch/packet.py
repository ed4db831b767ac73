"""A query as a packet: 32 bytes at 128 bits, for the uplink to a box that has the gallery. PACKET.md specifies it.

    packet = QueryPacket.of(encoder.encode_texts(["ships in a harbour"]), fingerprint=encoder.bundle.fingerprint)
    uplink.send(packet.to_bytes())

Whatever arrives is checked: magic, version, length and CRC-32, in this order, before any other byte of it is used.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from .codes import PackedCodes, check_codes
from .errors import CodesError, PacketError

QUERY_MAGIC, ANSWER_MAGIC = b"DQ", b"DA"
VERSION = 1
CRC_SIZE = 4
BUNDLE_SIZE = 8  # bytes of the bundle's fingerprint
MAX_N_BITS = 8 * 255

_NAMES = {QUERY_MAGIC: "a query packet", ANSWER_MAGIC: "an answer packet"}
_FIXED_SIZE = 12 + CRC_SIZE  # bytes of a query packet without its code


@dataclass(frozen=True, kw_only=True)
class QueryPacket:
    """A code to search with, and the bundle that made it.

    Attributes:
        code: packed code of the query, n_bits / 8 bytes, 1 to 255.
        bundle: the first 8 bytes of the bundle's fingerprint.

    Raises:
        CodesError: a code that is empty or longer than a packet can say.
    """

    code: bytes
    bundle: bytes

    def __post_init__(self) -> None:
        if not 8 <= self.n_bits <= MAX_N_BITS:
            raise CodesError(f"the code has {self.n_bits} bits; wanted 8 to {MAX_N_BITS} for a packet")
        if len(self.bundle) != BUNDLE_SIZE:
            raise CodesError(f"{len(self.bundle)} bytes of a fingerprint; wanted the first {BUNDLE_SIZE}")

    @classmethod
    def of(cls, codes: PackedCodes, *, fingerprint: str) -> QueryPacket:
        """The packet of one query.

        Shape: codes (1, n_bits / 8) uint8.

        Args:
            codes: its packed code.
            fingerprint: 64 hex digits of the bundle that made it.

        Raises:
            CodesError: not one code, or one of more than 2040 bits.
        """
        if len(check_codes(codes)) != 1:
            raise CodesError(f"{len(codes)} codes; wanted one for a packet")
        return cls(code=codes[0].tobytes(), bundle=bytes.fromhex(fingerprint)[:BUNDLE_SIZE])

    @property
    def n_bits(self) -> int:
        """Length of the code."""
        return 8 * len(self.code)

    @property
    def crc(self) -> int:
        """The packet's CRC-32; an answer names its query by it."""
        return int.from_bytes(self.to_bytes()[-CRC_SIZE:], "little")

    def to_bytes(self) -> bytes:
        """The packet: n_bits / 8 + 16 bytes."""
        return sealed(QUERY_MAGIC + bytes([VERSION, len(self.code)]) + self.bundle + self.code)

    @classmethod
    def from_bytes(cls, packet: bytes) -> QueryPacket:
        """The query of a packet.

        Raises:
            PacketError: no query packet, of another version, cut short, too long, or damaged.
        """
        check_head(packet, QUERY_MAGIC, _FIXED_SIZE + 1)
        wanted = _FIXED_SIZE + packet[3]
        if len(packet) != wanted or packet[3] == 0:
            raise PacketError(
                f"the query packet has {len(packet)} bytes and says {8 * packet[3]} bits, which take {wanted}; "
                "wanted all of it, and no more"
            )
        content = unsealed(packet)
        return cls(bundle=content[4:12], code=content[12:])


def sealed(content: bytes) -> bytes:
    """A packet: its content, and the CRC-32 of that."""
    return content + zlib.crc32(content).to_bytes(CRC_SIZE, "little")


def check_head(packet: bytes, magic: bytes, least: int) -> None:
    """Refuse what is no packet of a kind and of this version.

    Raises:
        PacketError: fewer bytes than the least, another magic or another version.
    """
    wanted = _NAMES[magic]
    if len(packet) < least:
        raise PacketError(f"{len(packet)} bytes are no packet; wanted {wanted}, which has at least {least}")
    if packet[:2] != magic:
        found = _NAMES.get(packet[:2], f"no packet, as it begins with the bytes {packet[:2].hex(' ')}")
        raise PacketError(f"this is {found}; wanted {wanted}, which begins with {magic.hex(' ')}")
    if packet[2] != VERSION:
        raise PacketError(f"{wanted} of version {packet[2]}; this duch reads version {VERSION}")


def unsealed(packet: bytes) -> bytes:
    """The content of a packet.

    Raises:
        PacketError: its CRC-32 is another one.
    """
    content, found = packet[:-CRC_SIZE], int.from_bytes(packet[-CRC_SIZE:], "little")
    if (wanted := zlib.crc32(content)) != found:
        raise PacketError(f"the packet is damaged: CRC-32 {found:08x}, wanted {wanted:08x}; send it again")
    return content


def bytes_of(received: bytes) -> bytes:
    """A packet as it was received: raw, or in hexadecimal with any white space, as it goes over a text or voice link.

    Raises:
        PacketError: hexadecimal that was mistyped.
    """
    digits = b"".join(received.split())
    if digits[:4].decode("latin-1") not in {magic.hex() for magic in _NAMES}:
        return received
    if wrong := re.search(rb"[^0-9A-Fa-f]", digits):
        found = wrong[0].decode("latin-1")
        raise PacketError(
            f"digit {wrong.start() + 1} of the packet is {found!r}; wanted hexadecimal, 0 to 9 and a to f"
        )
    if len(digits) % 2:
        raise PacketError(f"the packet has {len(digits)} hexadecimal digits; wanted two for each byte")
    return bytes.fromhex(digits.decode("ascii"))
