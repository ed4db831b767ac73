"""Whole numbers in as few bytes as plain code can put them: alone, and as lists of one width. PACKET.md, "Numbers".

A reader takes nothing on trust: whatever the bytes say, it reads no further than they go.
"""

from __future__ import annotations

from collections.abc import Sequence

from .errors import PacketError

_LONGEST = 9  # bytes of a number: 63 bits


def number(value: int) -> bytes:
    """One number, 0 to 2^63 - 1: seven bits a byte, the lowest first; the 128s place says that another byte follows."""
    content = bytearray()
    while value > 127:
        content.append(value & 127 | 128)
        value >>= 7
    return bytes([*content, value])


def numbers(values: Sequence[int]) -> bytes:
    """A list of numbers: the least, a byte with a width in bits, then in that width what each is above the least.

    It does not say how many there are.
    """
    least = min(values, default=0)
    width = (max(values, default=0) - least).bit_length()
    bits = "".join(f"{value - least:0{width}b}" for value in values) if width else ""
    n_bytes = (len(bits) + 7) // 8
    packed = int(bits.ljust(8 * n_bytes, "0") or "0", 2)
    return number(least) + bytes([width]) + packed.to_bytes(n_bytes, "big")


class Reader:
    """Reads numbers one after another."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def take(self, n_bytes: int) -> bytes:
        """The next bytes.

        Raises:
            PacketError: there are not so many.
        """
        taken = self._content[self._place : self._place + n_bytes]
        if len(taken) < n_bytes:
            raise PacketError(f"the packet says more than its {len(self._content)} bytes hold; it was not made by duch")
        self._place += n_bytes
        return taken

    def rest(self) -> bytes:
        """All bytes that were not read yet."""
        return self.take(len(self._content) - self._place)

    def number(self) -> int:
        """One number.

        Raises:
            PacketError: it has no end, or more than 63 bits.
        """
        value = 0
        for place in range(_LONGEST):
            (byte,) = self.take(1)
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value
        raise PacketError("the packet holds a number of more than 63 bits; it was not made by duch")

    def numbers(self, n: int) -> list[int]:
        """A list of n numbers.

        Raises:
            PacketError: it is longer than the packet, or a number has more than 63 bits.
        """
        least, (width,) = self.number(), self.take(1)
        if width > 63:
            raise PacketError(f"the packet holds numbers {width} bits wide; wanted 63 at most")
        packed = self.take((n * width + 7) // 8)
        bits = f"{int.from_bytes(packed, 'big'):0{8 * len(packed)}b}"
        values = [least + int(bits[place * width : (place + 1) * width] or "0", 2) for place in range(n)]
        if max(values, default=0) >= 2**63:
            raise PacketError("the packet holds a number of more than 63 bits; it was not made by duch")
        return values
