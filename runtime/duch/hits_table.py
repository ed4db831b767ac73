"""Hits for eyes and for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .captions import centre_of, is_on_map, time_text
from .display import printable
from .tile import Hit


def hits_table(hits: Sequence[Hit]) -> list[str]:
    """Lines for eyes; columns for time and place where any hit knows them."""
    timed = any(hit.time_us is not None for hit in hits)
    placed = any(hit.footprint is not None for hit in hits)
    head = f"{'rank':>4} {'distance':>8}{'  time'.ljust(22) * timed}{'  longitude latitude' * placed}  id"
    return [head, *(_line(hit, timed=timed, placed=placed) for hit in hits)]


def _line(hit: Hit, *, timed: bool, placed: bool) -> str:
    line = f"{hit.rank:>4} {hit.distance:>8}"
    if timed:
        text = time_text(hit.time_us)
        line += f"  {'' if text is None else text[:19] + 'Z':20}"
    if placed:
        box = hit.footprint
        line += "  {:>9.4f} {:>8.4f}".format(*centre_of(box)) if box is not None and is_on_map(box) else " " * 20
    return f"{line}  {printable(hit.id)}{f'  {printable(hit.text)}' if hit.text else ''}"


def hit_as_json(hit: Hit) -> dict[str, Any]:
    """What is known of a hit, as JSON values and paths."""
    # Not asdict, which copies all attributes: of 200,000 chips in 18 of 45 seconds.
    known = {name: value for name in Hit.__dataclass_fields__ if (value := getattr(hit, name)) not in (None, {})}
    return known if hit.window is None else {**known, "window": hit.window}
