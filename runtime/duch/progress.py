"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

# Called with how much is done (tiles, files, rows), and how much there is in all.
Progress = Callable[[int, int], None]
