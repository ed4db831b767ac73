"""Energy that the processor or the board takes, where a counter may be read.

Two kinds are known. RAPL counts the joules of processor packages and memory (Intel and AMD; most systems let only root
read it). INA2xx and INA3221 are sensors on a board's supply, as on Jetsons: they tell watts, which are sampled and
added up. Both count all that runs meanwhile, idle power included.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from .machine import ROOT, read_integer, read_text

_SAMPLE_EVERY = 0.05  # seconds; a sensor averages over about a millisecond, and reading it takes as long on the bus


class Meter(Protocol):
    """Something that counts energy between `start` and `stop`."""

    names: tuple[str, ...]

    def start(self) -> None:
        """Begin to count."""

    def stop(self) -> float | None:
        """Joules since `start`; None if the counter could not be read."""


def find_meter(root: Path = ROOT) -> Meter | None:
    """A meter that may be read here: RAPL, else INA sensors, else None. `root` is the folder that stands for /."""
    domains = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
    # Cores and graphics are parts of their package, and psys holds the packages: they would be counted twice.
    counted = [domain for domain in domains if _rapl_name(domain).startswith(("package", "dram"))]
    counted = [domain for domain in counted if read_integer(domain / "energy_uj") is not None]
    if counted:
        return Rapl(counted)
    rails = [rail for sensor in sorted((root / "sys/class/hwmon").glob("hwmon*")) for rail in _rails(sensor)]
    rails = [rail for rail in rails if rail.watts() is not None]
    # A Jetson names its supply; the other rails are parts of it.
    supply = [rail for rail in rails if rail.name.endswith("VDD_IN")]
    return Sensors(supply or rails) if rails else None


class Rapl:
    """Counters of microjoules, which begin at 0 again after `max_energy_range_uj`."""

    def __init__(self, domains: Sequence[Path]) -> None:
        self._domains = tuple(domains)
        self._before: list[int | None] = []
        self.names = tuple(f"{domain.name} {_rapl_name(domain)}" for domain in domains)

    def start(self) -> None:
        """Begin to count."""
        self._before = self._read()

    def stop(self) -> float | None:
        """Joules since `start`, which must not be longer than one round of the counter: minutes at full power."""
        used = 0
        for domain, before, now in zip(self._domains, self._before, self._read(), strict=True):
            if before is None or now is None:
                return None
            used += now - before
            if now < before:
                used += read_integer(domain / "max_energy_range_uj") or 0
        return used / 1e6

    def _read(self) -> list[int | None]:
        return [read_integer(domain / "energy_uj") for domain in self._domains]


class Rail:
    """One supply that an INA sensor watches."""

    def __init__(self, name: str, files: Sequence[Path], unit: float) -> None:
        self.name = name
        self._files = files
        self._unit = unit

    def watts(self) -> float | None:
        """Power just now; None if the sensor cannot be read."""
        product = self._unit
        for file in self._files:
            value = read_integer(file)
            if value is None:
                return None
            product *= value
        return product


class Sensors:
    """INA sensors, sampled by a thread of their own."""

    def __init__(self, rails: Sequence[Rail]) -> None:
        self._rails = rails
        self._samples: list[tuple[float, float]] = []  # seconds, watts of all rails
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self.names = tuple(rail.name for rail in rails)

    def start(self) -> None:
        """Begin to sample."""
        self._samples.clear()
        self._done.clear()
        self._sample()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """Joules since `start`, the power between two samples taken as the mean of both."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        self._sample()
        if len(self._samples) < 2:
            return None
        return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(self._samples, self._samples[1:], strict=False))

    def _run(self) -> None:
        while not self._done.wait(_SAMPLE_EVERY):
            self._sample()

    def _sample(self) -> None:
        watts = [rail.watts() for rail in self._rails]
        known = [value for value in watts if value is not None]
        if len(known) == len(watts):
            self._samples.append((time.monotonic(), sum(known)))


def _rapl_name(domain: Path) -> str:
    return read_text(domain / "name") or ""


def _rails(sensor: Path) -> list[Rail]:
    name = read_text(sensor / "name") or ""
    if not name.startswith(("ina2", "ina3")):
        return []
    if (sensor / "power1_input").exists():
        return [Rail(f"{sensor.name} {name}", [sensor / "power1_input"], 1e-6)]  # microwatts
    rails = []
    for channel in (1, 2, 3):  # an INA3221 tells millivolts and milliamperes; its inputs above 3 are the shunts
        files = [sensor / f"in{channel}_input", sensor / f"curr{channel}_input"]
        label = read_text(sensor / f"in{channel}_label") or f"channel {channel}"
        rails.append(Rail(f"{sensor.name} {name} {label}", files, 1e-6))
    return rails
