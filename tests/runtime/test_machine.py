"""Facts of the machine, read from small copies of real /proc and /sys trees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pytest

from duch.machine import cpu_facts, peak_rss_mb, rss_mb, software_facts, throttle_count, total_memory_mb

# From a Xeon of the Sapphire Rapids family; flags shortened.
XEON = """\
processor	: 0
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
cpu MHz		: 2699.998
flags		: fpu sse2 ssse3 sse4_2 popcnt avx f16c avx2 avx512f avx512bw avx_vnni avx512_vnni amx_tile amx_int8
bugs		: spectre_v1

processor	: 1
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
cpu MHz		: 3100.250
flags		: fpu sse2 ssse3 sse4_2 popcnt avx f16c avx2 avx512f avx512bw avx_vnni avx512_vnni amx_tile amx_int8
"""

# From an Orange Pi 5 (RK3588: four Cortex-A55, four Cortex-A76).
BIG_LITTLE = """\
processor	: 0
BogoMIPS	: 48.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x2
CPU part	: 0xd05
CPU revision	: 0

processor	: 4
BogoMIPS	: 48.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x4
CPU part	: 0xd0b
CPU revision	: 0
"""


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_an_x86_server_is_described(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu"
    facts = cpu_facts(
        tree(
            tmp_path,
            {
                "proc/cpuinfo": XEON,
                f"{cpu}/cpu0/cpufreq/scaling_governor": "powersave\n",
                f"{cpu}/cpu1/cpufreq/scaling_governor": "performance\n",
                f"{cpu}/cpu0/cpufreq/scaling_cur_freq": "800000\n",
                f"{cpu}/cpu1/cpufreq/scaling_cur_freq": "2100000\n",
                f"{cpu}/cpu0/cpufreq/scaling_max_freq": "3500000\n",
                f"{cpu}/cpu0/thermal_throttle/core_throttle_count": "3\n",
                f"{cpu}/cpu1/thermal_throttle/core_throttle_count": "4\n",
                f"{cpu}/cpufreq/policy0/scaling_governor": "not looked at",
            },
        )
    )
    assert facts.model == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert facts.flags == ("sse4_2", "avx", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
    assert facts.governor == "performance, powersave"
    assert (facts.mhz, facts.max_mhz) == (2100.0, 3500.0)
    assert facts.throttled == 7


def test_without_cpufreq_the_clock_is_that_of_cpuinfo(tmp_path: Path) -> None:
    facts = cpu_facts(tree(tmp_path, {"proc/cpuinfo": XEON}))
    assert (facts.mhz, facts.max_mhz, facts.governor) == (3100.25, None, None)


@pytest.mark.parametrize(
    ("files", "model"),
    [
        ({"proc/device-tree/model": "Orange Pi 5\0"}, "Orange Pi 5 (CPU implementer 0x41 part 0xd05/0xd0b)"),
        ({}, "CPU implementer 0x41 part 0xd05/0xd0b"),
        (
            {"proc/cpuinfo": BIG_LITTLE + "\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"},
            "Raspberry Pi 4 Model B Rev 1.4 (CPU implementer 0x41 part 0xd05/0xd0b)",
        ),
    ],
    ids=["device tree", "cores alone", "cpuinfo of a Raspberry Pi"],
)
def test_an_arm_board_has_no_model_name(tmp_path: Path, files: dict[str, str], model: str) -> None:
    facts = cpu_facts(tree(tmp_path, {"proc/cpuinfo": BIG_LITTLE, **files}))
    assert facts.model == model
    assert facts.flags == ("asimd", "asimddp")


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/app/box\n", "sys/fs/cgroup/app/cpu.max": "150000 100000\n"}, 1.5),
        (
            {
                "proc/self/cgroup": "0::/app/box\n",
                "sys/fs/cgroup/app/cpu.max": "150000 100000\n",
                "sys/fs/cgroup/app/box/cpu.max": "75000 100000\n",
            },
            0.75,
        ),
        ({"proc/self/cgroup": "0::/docker/4f1c\n", "sys/fs/cgroup/cpu.max": "25000 100000\n"}, 0.25),
        (
            {
                "proc/self/cgroup": "2:memory:/\n1:cpuacct,cpu:/box\n0::/\n",
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "20000\n",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            0.2,
        ),
        ({"proc/self/cgroup": "nonsense\n"}, None),
    ],
    ids=["v2", "v2 no limit", "v2 parent", "v2 tightest", "v2 in a container", "v1", "nonsense"],
)
def test_a_control_group_limits_the_cores(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    facts = cpu_facts(tree(tmp_path, files))
    allowed = len(os.sched_getaffinity(0))
    assert facts.quota == quota
    assert facts.cores == (allowed if quota is None else min(allowed, 1 if quota <= 1 else 2))


def test_what_is_missing_is_none(tmp_path: Path) -> None:
    facts = cpu_facts(tmp_path)
    assert facts.flags == ()
    assert {facts.model, facts.quota, facts.governor, facts.mhz, facts.max_mhz, facts.throttled} == {None}
    assert facts.cores == len(os.sched_getaffinity(0))
    assert (total_memory_mb(tmp_path), rss_mb(tmp_path)) == (None, None)
    assert peak_rss_mb(tmp_path) > 0


def test_what_cannot_be_read_or_makes_no_sense_is_none(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu/cpu0"
    root = tree(
        tmp_path,
        {
            "proc/cpuinfo": "cpu MHz : fast\nno colon here\n",
            "proc/meminfo": "MemTotal: plenty\n",
            "proc/self/status": "VmRSS:\n",
            f"{cpu}/thermal_throttle/core_throttle_count": "often\n",
        },
    )
    (root / cpu / "cpufreq/scaling_governor").mkdir(parents=True)  # reading it fails, for root too
    facts = cpu_facts(root)
    assert {facts.model, facts.governor, facts.mhz, facts.throttled} == {None}
    assert (total_memory_mb(root), rss_mb(root)) == (None, None)


def test_memory_is_told_in_megabytes(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/meminfo": "MemTotal:        8039936 kB\nMemFree: 1 kB\n",
            "proc/self/status": "Name:\tpython\nVmHWM:\t  250000 kB\nVmRSS:\t  125000 kB\n",
        },
    )
    assert total_memory_mb(root) == pytest.approx(8232.894)
    assert rss_mb(root) == pytest.approx(128.0)
    assert peak_rss_mb(root) == pytest.approx(256.0)


def test_a_peak_is_this_process_s_own_and_not_its_parent_s() -> None:
    program = (
        "import os, sys\n"
        "held = bytearray(200_000_000)\n"
        "held[::4096] = b'x' * len(held[::4096])\n"
        "child = [sys.executable, '-c', 'from duch.machine import peak_rss_mb; print(peak_rss_mb())']\n"
        "sys.stdout.flush()\n"
        "os.waitpid(os.posix_spawn(sys.executable, child, os.environ), 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 5 < float(done.stdout) < 190


def test_facts_of_this_machine_are_plain_values() -> None:
    facts = cpu_facts()
    assert facts.model
    assert facts.architecture == os.uname().machine
    assert 1 <= facts.cores <= len(os.sched_getaffinity(0))
    assert throttle_count() == facts.throttled
    assert 0 < (rss_mb() or 0) <= peak_rss_mb() < (total_memory_mb() or 0)
    software = software_facts()
    assert software.numpy == version("numpy")
    assert software.onnxruntime
    assert all(found == version(package) for package, found in software.onnxruntime.items())
    json.dumps([asdict(facts), asdict(software)], allow_nan=False)
