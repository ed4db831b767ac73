"""Facts of this machine that explain a latency: CPU, clock, throttling, memory, versions.

Read from /proc and /sys with the standard library alone. What is missing or may not be read is None: a fact that is
not known is never an error. `root` is the folder that stands for /.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import resource
from dataclasses import dataclass
from pathlib import Path

from . import native

ROOT = Path("/")

# Those that decide which kernels onnxruntime and our search take.
_X86 = ("sse4_2", "avx", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_vpopcntdq", "amx_int8")
_ARM = ("asimd", "asimddp", "i8mm", "sve")
FLAGS_OF_INTEREST = (*_X86, *_ARM)

_ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")


@dataclass(frozen=True)
class CpuFacts:
    """The processor as this process may use it.

    Attributes:
        model: its name; on ARM the board's name, and implementer and part of each kind of core.
        architecture: x86_64, aarch64 ...
        flags: those of `FLAGS_OF_INTEREST` that it has.
        cores: how many this process may use: by affinity, or by the control group's quota where that is less.
        quota: processor time the control group may take, in cores; None where there is no limit.
        governor: of the clock; several are joined by a comma.
        mhz: the fastest core's clock just now.
        max_mhz: the fastest clock allowed.
        throttled: how often heat has slowed the cores down since the start of the machine, over all cores.
    """

    model: str | None
    architecture: str
    flags: tuple[str, ...]
    cores: int
    quota: float | None
    governor: str | None
    mhz: float | None
    max_mhz: float | None
    throttled: int | None


@dataclass(frozen=True)
class SoftwareFacts:
    """Versions of what runs the graphs.

    Attributes:
        python: of this interpreter.
        numpy: as installed.
        onnxruntime: package name -> version, for each package of onnxruntime that is installed.
        kernel: name and release of the operating system's kernel.
        search: which of our search kernels runs, see `duch.native.level`.
    """

    python: str
    numpy: str | None
    onnxruntime: dict[str, str]
    kernel: str
    search: str


def cpu_facts(root: Path = ROOT) -> CpuFacts:
    """The processor, its clock, and how much of it this process may use."""
    cpus = root / "sys/devices/system/cpu"
    info = _cpuinfo(root)
    has = {flag for name in ("flags", "Features") for line in info.get(name, []) for flag in line.split()}
    governors = sorted({text for text in map(read_text, cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")) if text})
    quota = _quota(root)
    allowed = len(os.sched_getaffinity(0))
    return CpuFacts(
        model=_model(root, info),
        architecture=platform.machine(),
        flags=tuple(flag for flag in FLAGS_OF_INTEREST if flag in has),
        cores=allowed if quota is None else min(allowed, math.ceil(quota)),
        quota=quota,
        governor=", ".join(governors) or None,
        mhz=_clock(cpus, "scaling_cur_freq") or _fastest(info.get("cpu MHz", [])),
        max_mhz=_clock(cpus, "scaling_max_freq"),
        throttled=throttle_count(root),
    )


def throttle_count(root: Path = ROOT) -> int | None:
    """How often heat has slowed the cores down since the start of the machine, over all cores; x86 alone counts it."""
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = [count for count in map(read_integer, files) if count is not None]
    return sum(counts) if counts else None


def software_facts() -> SoftwareFacts:
    """Versions of Python, NumPy, onnxruntime and the kernel, and which search kernels run.

    Raises:
        NativeError: the native library is damaged, or missing though it is required.
        ConfigError: DUCH_HAMMING_LEVEL names no level of this processor.
    """
    found = {package: version for package in _ONNXRUNTIMES if (version := _version(package))}
    return SoftwareFacts(
        python=platform.python_version(),
        numpy=_version("numpy"),
        onnxruntime=found,
        kernel=f"{platform.system()} {platform.release()}",
        search=native.level(),
    )


def total_memory_mb(root: Path = ROOT) -> float | None:
    """Memory of the machine, in MB of 10^6 bytes."""
    return _kilobytes(root / "proc/meminfo", "MemTotal")


def rss_mb(root: Path = ROOT) -> float | None:
    """Memory of this process that is in RAM now, in MB of 10^6 bytes."""
    return _kilobytes(root / "proc/self/status", "VmRSS")


def peak_rss_mb(root: Path = ROOT) -> float:
    """The most memory of this process that was ever in RAM, in MB of 10^6 bytes."""
    # getrusage counts the parent's peak too, which a process keeps through fork and exec: a child that needed 14 MB was
    # told to have needed the 306 MB of its parent.
    peak = _kilobytes(root / "proc/self/status", "VmHWM")
    return peak if peak is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _cpuinfo(root: Path) -> dict[str, list[str]]:
    """Field of /proc/cpuinfo -> its values that differ, in their order."""
    fields: dict[str, list[str]] = {}
    for line in (read_text(root / "proc/cpuinfo") or "").splitlines():
        name, colon, value = line.partition(":")
        values = fields.setdefault(name.strip(), [])
        if colon and value.strip() and value.strip() not in values:
            values.append(value.strip())
    return fields


def _model(root: Path, info: dict[str, list[str]]) -> str | None:
    if names := info.get("model name"):
        return ", ".join(names)
    board = (read_text(root / "proc/device-tree/model") or "").strip("\0") or next(iter(info.get("Model", [])), None)
    makers = "/".join(info.get("CPU implementer", []))
    parts = "/".join(info.get("CPU part", []))  # two, where fast cores and small ones share a chip
    cores = f"CPU implementer {makers} part {parts}" if parts else None
    return f"{board} ({cores})" if board and cores else board or cores


def _quota(root: Path) -> float | None:
    """The tightest limit on processor time of this process's control group and of those above it, in cores."""
    limits = []
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            mount, read = root / "sys/fs/cgroup", _quota_v2
        elif "cpu" in controllers.split(","):
            mount, read = root / "sys/fs/cgroup/cpu", _quota_v1
        else:
            continue
        # A container may see the path that its host uses, which is not there: its own group is then the mount itself.
        group = Path(path.lstrip("/"))
        limits += [read(mount / one) for one in (group, *group.parents)]
    return min((limit for limit in limits if limit is not None), default=None)


def _quota_v2(group: Path) -> float | None:
    quota, period = (*(read_text(group / "cpu.max") or "").split(), "", "")[:2]
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _quota_v1(group: Path) -> float | None:
    quota, period = read_integer(group / "cpu.cfs_quota_us"), read_integer(group / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None  # -1: no limit


def _clock(cpus: Path, file: str) -> float | None:
    kilohertz = [value for value in map(read_integer, cpus.glob(f"cpu[0-9]*/cpufreq/{file}")) if value]
    return max(kilohertz) / 1e3 if kilohertz else None


def _fastest(megahertz: list[str]) -> float | None:
    try:
        return max(map(float, megahertz), default=None)
    except ValueError:
        return None


def _kilobytes(file: Path, field: str) -> float | None:
    for line in (read_text(file) or "").splitlines():
        name, _, value = line.partition(":")
        number = value.removesuffix("kB").strip()
        if name == field and number.isdigit():
            return int(number) * 1024 / 1e6
    return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_integer(file: Path) -> int | None:
    """The one number in a small file of /proc or /sys; None if it cannot be had."""
    try:
        return int(read_text(file) or "")
    except ValueError:
        return None


def read_text(file: Path) -> str | None:
    """Content of a small file of /proc or /sys, stripped; None if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
