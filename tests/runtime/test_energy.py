"""Energy counters, read from small copies of real /sys trees."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from duch.energy import find_meter


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def domain(name: str, energy: int) -> dict[str, str]:
    return {"name": f"{name}\n", "energy_uj": f"{energy}\n", "max_energy_range_uj": "262143328850\n"}


def powercap(**domains: tuple[str, int]) -> dict[str, str]:
    return {
        f"sys/class/powercap/{folder.replace('_', ':').replace('rapl', 'intel-rapl')}/{file}": content
        for folder, (name, energy) in domains.items()
        for file, content in domain(name, energy).items()
    }


@pytest.fixture
def server(tmp_path: Path) -> Path:
    return tree(
        tmp_path,
        powercap(
            rapl_0=("package-0", 262_143_000_000),
            rapl_0_0=("core", 5_000_000),
            rapl_0_1=("dram", 1_000_000),
            rapl_1=("package-1", 70_000_000),
            rapl_2=("psys", 9_000_000),
        ),
    )


def test_rapl_adds_packages_and_memory_and_survives_a_wrap(server: Path) -> None:
    meter = find_meter(server)
    assert meter is not None
    assert meter.names == ("intel-rapl:0 package-0", "intel-rapl:0:1 dram", "intel-rapl:1 package-1")
    meter.start()
    # the first package wraps: 328,850 uJ to the end of its range, and 671,150 beyond it
    later = powercap(
        rapl_0=("package-0", 671_150),
        rapl_0_0=("core", 900_000_000),
        rapl_0_1=("dram", 1_500_000),
        rapl_1=("package-1", 72_000_000),
        rapl_2=("psys", 900_000_000),
    )
    tree(server, later)
    assert meter.stop() == pytest.approx(1.0 + 0.5 + 2.0)


def test_a_counter_that_vanishes_gives_no_energy(server: Path) -> None:
    meter = find_meter(server)
    assert meter is not None
    meter.start()
    (server / "sys/class/powercap/intel-rapl:1/energy_uj").unlink()
    assert meter.stop() is None


def test_counters_that_may_not_be_read_are_none(server: Path) -> None:
    for file in (server / "sys/class/powercap").glob("*/energy_uj"):
        file.unlink()
        file.mkdir()  # reading it fails, for root too
    assert find_meter(server) is None


def test_no_counter_at_all(tmp_path: Path) -> None:
    assert find_meter(tmp_path) is None
    assert find_meter(tree(tmp_path, {"sys/class/hwmon/hwmon0/name": "coretemp\n"})) is None


def joules_of(root: Path, seconds: float) -> tuple[float, float]:
    """Joules that were counted, and the seconds that passed."""
    meter = find_meter(root)
    assert meter is not None
    started = time.monotonic()
    meter.start()
    time.sleep(seconds)
    joules = meter.stop()
    assert joules is not None
    return joules, time.monotonic() - started


def test_an_ina219_is_sampled(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {"sys/class/hwmon/hwmon2/name": "ina219\n", "sys/class/hwmon/hwmon2/power1_input": "4000000\n"},
    )
    joules, passed = joules_of(root, 0.2)
    assert 4.0 * 0.2 <= joules <= 4.0 * passed


@pytest.mark.parametrize(
    ("labels", "watts", "names"),
    [
        (("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), 5.0, ("hwmon1 ina3221 VDD_IN",)),
        (("VDD_GPU", "VDD_CPU"), 6.0, ("hwmon1 ina3221 VDD_GPU", "hwmon1 ina3221 VDD_CPU")),
    ],
    ids=["a supply and its parts", "parts alone"],
)
def test_an_ina3221_tells_volts_and_amperes(
    tmp_path: Path, labels: tuple[str, ...], watts: float, names: tuple[str, ...]
) -> None:
    files = {"name": "ina3221\n"}
    for channel, (label, milliamperes) in enumerate(zip(labels, ("1000\n", "200\n", "100\n"), strict=False), start=1):
        files[f"in{channel}_label"] = f"{label}\n"
        files[f"in{channel}_input"] = "5000\n"
        files[f"curr{channel}_input"] = milliamperes
    root = tree(tmp_path, {f"sys/class/hwmon/hwmon1/{name}": content for name, content in files.items()})
    meter = find_meter(root)
    assert meter is not None
    assert meter.names == names
    joules, passed = joules_of(root, 0.1)
    assert watts * 0.1 <= joules <= watts * passed
