"""Execution providers of onnxruntime: short names for them, and what to say when one is not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import InputError, ProviderError, one_line

CPU = "CPUExecutionProvider"

SHORT_NAMES = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}

# All of them write the same folder, onnxruntime/.
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")

_REMEDIES = {
    "CUDAExecutionProvider": "install onnxruntime-gpu in place of onnxruntime",
    "TensorrtExecutionProvider": "install onnxruntime-gpu in place of onnxruntime",
    "OpenVINOExecutionProvider": "install onnxruntime-openvino in place of onnxruntime",
    "CoreMLExecutionProvider": "it comes with onnxruntime on macOS alone",
}


class ProviderFallbackWarning(UserWarning):
    """A provider that was asked for does not run a graph, and another one does."""


def full_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names as onnxruntime has them, each once, in the order given.

    Takes the short names `SHORT_NAMES`, and any word that ends in ExecutionProvider.

    Raises:
        InputError: no name, or one that is neither.
    """
    if isinstance(names, str):
        names = (names,)
    if not names:
        raise InputError(f"no execution provider given; wanted at least one of {', '.join(SHORT_NAMES)}")
    found = []
    for name in names:
        full = SHORT_NAMES.get(name.lower(), name)
        if not full.endswith("ExecutionProvider") or not full.isidentifier():
            raise InputError(
                f"execution provider {name!r} is unknown; wanted {', '.join(SHORT_NAMES)}, "
                "or a full name of onnxruntime's such as XnnpackExecutionProvider"
            )
        found.append(full)
    return tuple(dict.fromkeys(found))


def choose(requested: Sequence[str], available: Sequence[str], *, allow_fallback: bool) -> list[str]:
    """Providers to start a session with, by their full names.

    Args:
        requested: the preferred one first.
        available: those that this onnxruntime was built with.
        allow_fallback: leave out what is not available, and end with the CPU.

    Raises:
        ProviderError: one of them is not available.
    """
    missing = [name for name in requested if name not in available]
    if missing and not allow_fallback:
        raise ProviderError(not_available(missing[0], available))
    chosen = [name for name in requested if name in available]
    return [*chosen, CPU] if allow_fallback and CPU not in chosen else chosen


def not_available(name: str, available: Sequence[str]) -> str:
    """One line for a provider that this onnxruntime was built without."""
    advice = several_installed() or _REMEDIES.get(name, "install a build of onnxruntime that has it")
    return f"execution provider {name} is not available, this onnxruntime has {', '.join(available)}; {advice}"


def not_started(name: str, reason: str) -> str:
    """One line for a provider that is there and does not start."""
    advice = several_installed() or "check its drivers and libraries"
    return f"execution provider {name} did not start: {missing_library(name) or reason}; {advice}"


def fell_back(lost: Sequence[str], obtained: Sequence[str]) -> str:
    """One line for providers that others have taken the place of."""
    many = "s" if len(lost) > 1 else ""
    reason = next(filter(None, map(missing_library, lost)), "")
    return (
        f"execution provider{many} {', '.join(lost)} did not start; onnxruntime runs on {', '.join(obtained)}"
        f"{reason and f' ({reason})'}"
    )


def missing_library(name: str) -> str:
    """Which library a provider cannot be loaded for, as the system's loader says it; empty if it is not that.

    onnxruntime tells it to its log alone.
    """
    import ctypes

    import onnxruntime

    part = name.removesuffix("ExecutionProvider").lower()
    file = Path(onnxruntime.__path__[0], "capi", f"libonnxruntime_providers_{part}.so")
    if not file.is_file():
        return ""
    shared = file.with_name("libonnxruntime_providers_shared.so")
    try:
        if shared.is_file():
            ctypes.CDLL(str(shared), mode=ctypes.RTLD_GLOBAL)  # the others take symbols from it
        ctypes.CDLL(str(file))
    except OSError as error:
        return one_line(error)
    return ""


def several_installed() -> str:
    """What to do about packages of onnxruntime that have overwritten one another; empty if there is one at most."""
    found = _installed()
    if len(found) < 2:
        return ""
    return f"{' and '.join(found)} are installed together and overwrite each other, so uninstall all, then install one"


def emptied() -> str:
    """One line for an onnxruntime that can be imported and holds nothing: one of two packages took the files along."""
    package = next(iter(_installed()), "onnxruntime")
    return (
        "onnxruntime has lost its files, as happens when one of several packages of it is uninstalled; "
        f"run: pip install --no-deps --force-reinstall {package}"
    )


def _installed() -> list[str]:
    import importlib.metadata  # slow, and only an error needs it

    found = []
    for package in PACKAGES:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(package)
    return found
