"""What an export found out, as its report tells it."""

from __future__ import annotations

from dataclasses import dataclass

from duch_export.config import ExportConfig
from duch_export.gate import Check
from duch_export.parity import ParityReport


@dataclass(frozen=True)
class Findings:
    """What a report tells.

    Attributes:
        name: of the bundle's folder.
        fingerprint: of the bundle.
        n_bits: length of its codes.
        dataset: what the checkpoint was trained on.
        config: of the export.
        parity: the measurements.
        checks: the tests of the gate.
        forced: a bundle that fails is written all the same.
    """

    name: str
    fingerprint: str
    n_bits: int
    dataset: str
    config: ExportConfig
    parity: ParityReport
    checks: list[Check]
    forced: bool

    @property
    def failed(self) -> list[Check]:
        """The tests that were not passed."""
        return [check for check in self.checks if not check.passed]
