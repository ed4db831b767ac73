"""An answer as a packet: distances and ids of the hits in few bytes, for the downlink. PACKET.md specifies it.

    downlink.send(answer.fitted(220).to_bytes())
    Answer.from_bytes(received).ids

A chip among 100 of one scene takes 2 bytes, among 10 it takes 8 by its id and 3 by its seq, which does where the ground
has a copy of the gallery. Ids that have less in common take more.
"""

from __future__ import annotations

import math
import re
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Literal

from .errors import PacketError
from .packed_numbers import Reader, number, numbers
from .packet import ANSWER_MAGIC, CRC_SIZE, MAX_N_BITS, VERSION, check_head, sealed, unsealed

MAX_HITS = 65_535
MAX_TEXT = 1 << 24  # bytes of all ids: what a packet says must not decide how much memory it takes
LEAST_SIZE = 9 + CRC_SIZE

# How the hits are named: the low bits of the flags.
_IDS, _CHIPS, _SEQS = 0, 1, 2
_CUT = 128
_GAP = b"\xff"  # between texts; no UTF-8 holds it
# A chip's id, whose place in the scene goes as two numbers: uri, x, y and size.
_CHIP = re.compile(r"(.*)#(0|[1-9]\d{0,8}),(0|[1-9]\d{0,8}),(\d{1,9},\d{1,9})", re.DOTALL | re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The hits of a query, nearest first.

    Attributes:
        query_crc: CRC-32 of the query's packet.
        distances: bits in which each hit's code differs from the query's; they never fall.
        ids: id of each hit; None if they are named by their seqs.
        seqs: seq of each hit in the gallery that answered; None if they are named by their ids.
        cut: whether there were more hits than the packet was allowed to hold.

    Raises:
        PacketError: what a packet cannot say.
    """

    query_crc: int
    distances: tuple[int, ...]
    ids: tuple[str, ...] | None = None
    seqs: tuple[int, ...] | None = None
    cut: bool = False

    def __post_init__(self) -> None:
        if (self.ids is None) == (self.seqs is None) or len(self) != len(self.distances):
            raise PacketError("an answer whose hits do not each have a distance and either an id or a seq")
        if len(self) > MAX_HITS:
            raise PacketError(f"an answer of {len(self):,} hits; wanted {MAX_HITS:,} at most")
        if any(later < earlier for earlier, later in pairwise((0, *self.distances, MAX_N_BITS))):
            raise PacketError(f"an answer whose distances fall, or pass {MAX_N_BITS} bits; it was not made by duch")

    def __len__(self) -> int:
        """How many hits there are."""
        return len(self.names)

    @property
    def kind(self) -> Literal["id", "seq"]:
        """By what the hits are named."""
        return "seq" if self.ids is None else "id"

    @property
    def names(self) -> tuple[str, ...] | tuple[int, ...]:
        """The ids of the hits, or their seqs."""
        return self.ids or self.seqs or ()

    def to_bytes(self) -> bytes:
        """The packet: 13 bytes and the hits.

        Raises:
            PacketError: an id that is no UTF-8, or ids of more than 16 MiB.
        """
        form, hits = _IDS, b""
        if self.seqs is not None:
            form, hits = _SEQS, numbers(self.seqs)
        elif self.ids:
            form, hits = _of_ids(self.ids)
        flags = form | (_CUT if self.cut else 0)
        head = ANSWER_MAGIC + bytes([VERSION, flags]) + self.query_crc.to_bytes(CRC_SIZE, "little")
        return sealed(head + number(len(self)) + (self._packed_distances() + hits if len(self) else b""))

    @classmethod
    def from_bytes(cls, packet: bytes) -> Answer:
        """The answer of a packet.

        Raises:
            PacketError: no answer packet, of another version, cut short, damaged, or not made as PACKET.md says.
        """
        check_head(packet, ANSWER_MAGIC, LEAST_SIZE)
        reader = Reader(unsealed(packet))
        flags, query_crc = reader.take(4)[3], int.from_bytes(reader.take(CRC_SIZE), "little")
        form, n = flags & ~_CUT, reader.number()
        if form not in (_IDS, _CHIPS, _SEQS):
            raise PacketError(f"an answer packet with the flags {flags:#04x}, which this duch does not know")
        if n > MAX_HITS:
            raise PacketError(f"the packet says that it holds {n:,} hits; wanted {MAX_HITS:,} at most")
        distances: tuple[int, ...] = ()
        names: Sequence[str] = ()
        seqs: Sequence[int] = ()
        if n:
            distances = tuple(accumulate([reader.number(), *reader.numbers(n - 1)]))
            if form == _SEQS:
                seqs = reader.numbers(n)
            else:
                names = _read_texts(reader.rest(), n) if form == _IDS else _read_chips(reader, n)
        if reader.rest():
            raise PacketError("the packet goes on after its last hit; it was not made by duch")
        return cls(
            query_crc=query_crc,
            distances=distances,
            ids=None if form == _SEQS else tuple(names),
            seqs=tuple(seqs) if form == _SEQS else None,
            cut=bool(flags & _CUT),
        )

    def fitted(self, max_bytes: int) -> Answer:
        """The answer without the hits from the end that must go for its packet to be no larger.

        Raises:
            PacketError: not even the first hit fits.
        """
        if len(self.to_bytes()) <= max_bytes:
            return self
        n = bisect_left(range(1, len(self) + 1), True, key=lambda n: len(self._first(n).to_bytes()) > max_bytes)
        if n == 0:
            least = len(self._first(1).to_bytes())
            shorter = "" if self.ids is None else ", or seqs in place of ids"
            raise PacketError(f"one hit takes a packet of {least} bytes, not {max_bytes}; wanted more room{shorter}")
        return self._first(n)

    def _first(self, n: int) -> Answer:
        ids = None if self.ids is None else self.ids[:n]
        seqs = None if self.seqs is None else self.seqs[:n]
        return replace(self, distances=self.distances[:n], ids=ids, seqs=seqs, cut=self.cut or n < len(self))

    def _packed_distances(self) -> bytes:
        steps = [later - earlier for earlier, later in pairwise(self.distances)]
        return number(self.distances[0]) + numbers(steps)


def _of_ids(ids: Sequence[str]) -> tuple[int, bytes]:
    """Ids in the form that takes fewer bytes."""
    texts, chips = _texts(ids), _chips(ids)
    return (_IDS, texts) if chips is None or len(texts) <= len(chips) else (_CHIPS, chips)


def _texts(texts: Sequence[str]) -> bytes:
    try:
        joined = _GAP.join(text.encode("utf-8") for text in texts)
    except UnicodeEncodeError as error:
        raise PacketError(f"the id {error.object!a} is no UTF-8; wanted the id of a tile") from None
    if len(joined) > MAX_TEXT:
        raise PacketError(f"ids of {len(joined):,} bytes; wanted {MAX_TEXT:,} at most, so ask for fewer hits")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(joined) + deflate.flush()


def _read_texts(packed: bytes, n: int) -> list[str]:
    """n texts that take all of the bytes."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        joined = inflate.decompress(packed, MAX_TEXT + 1)
        texts = [text.decode("utf-8") for text in joined.split(_GAP, MAX_HITS)]
    except (zlib.error, UnicodeDecodeError) as error:
        raise PacketError(f"the ids of the packet cannot be read: {error}; it was not made by duch") from None
    if not inflate.eof or inflate.unused_data or len(joined) > MAX_TEXT or len(texts) != n:
        raise PacketError(f"the packet does not hold {n} ids of {MAX_TEXT:,} bytes at most; it was not made by duch")
    return texts


def _chips(ids: Sequence[str]) -> bytes | None:
    """Ids of chips: scenes and sizes once, of each hit which of them, and where in it. None unless all are chips."""
    found = [_CHIP.fullmatch(tile_id) for tile_id in ids]
    parts = [chip.groups() for chip in found if chip is not None]
    if len(parts) < len(ids):
        return None
    scenes = list(dict.fromkeys(f"{uri}#{size}" for uri, _, _, size in parts))
    place = {scene: at for at, scene in enumerate(scenes)}
    xs, ys = ([int(part[axis]) for part in parts] for axis in (1, 2))
    unit = math.gcd(*xs, *ys) or 1  # chips lie on a grid
    return b"".join(
        (
            number(len(scenes)),
            numbers([place[f"{uri}#{size}"] for uri, _, _, size in parts]),
            number(unit),
            numbers([x // unit for x in xs]),
            numbers([y // unit for y in ys]),
            _texts(scenes),
        )
    )


def _read_chips(reader: Reader, n: int) -> list[str]:
    n_scenes, of_scene, unit = reader.number(), reader.numbers(n), reader.number()
    xs, ys = reader.numbers(n), reader.numbers(n)
    if n_scenes > n or max(of_scene) >= n_scenes:
        raise PacketError(f"the packet holds chips of scene {max(of_scene)} of {n_scenes}; it was not made by duch")
    texts = _read_texts(reader.rest(), n_scenes)
    if sum(len(texts[at]) for at in of_scene) > MAX_TEXT:
        raise PacketError(f"the ids of the packet take more than {MAX_TEXT:,} bytes; it was not made by duch")
    scenes = [text.rpartition("#") for text in texts]
    return [f"{scenes[at][0]}#{x * unit},{y * unit},{scenes[at][2]}" for at, x, y in zip(of_scene, xs, ys, strict=True)]
