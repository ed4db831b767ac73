"""The native library: where it is, whether it belongs to these sources, and which version of its kernels runs.

`hatch_build.py` compiles runtime/native into this folder; runtime/native/hamming.h says what the functions do. Without
the library, or with the level `numpy`, the modules that ask here take their NumPy path, which gives the same results.

Environment:
    DUCH_HAMMING_LEVEL     avx512, avx2, neon, portable or numpy, in place of the best that this processor has.
    DUCH_REQUIRE_NATIVE=1  a missing library is an error.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from functools import cache
from pathlib import Path

from .errors import ConfigError, NativeError

LIBRARY = Path(__file__).with_name("libduch_native.so")
SOURCES = Path(__file__).parent.parent / "native"  # only in a checkout
NUMPY = "numpy"
MAX_THREADS = 1_024  # HAMMING_MAX_THREADS of hamming.h

_chosen: str | None = None  # by set_level, or by the environment when it is first asked


class Gallery(ctypes.Structure):
    """hamming_gallery of hamming.h: the codes to search and which of them."""

    _fields_ = (
        ("codes", ctypes.c_void_p),
        ("n_rows", ctypes.c_int64),
        ("n_bytes", ctypes.c_int64),
        ("allow", ctypes.c_void_p),
        ("listed", ctypes.c_void_p),
        ("n_listed", ctypes.c_int64),
    )


def library() -> ctypes.CDLL | None:
    """The library whose functions are to be used; None where NumPy is to do the work.

    Raises:
        NativeError: the library is from other sources, cannot be loaded, or is missing though it is required.
        ConfigError: DUCH_HAMMING_LEVEL names no level of this processor.
    """
    return None if level() == NUMPY else load()


def level() -> str:
    """Name of the kernels in use: avx512, avx2, neon, portable or numpy.

    Raises:
        NativeError: see `library`.
        ConfigError: see `library`.
    """
    if _chosen is None:
        wanted = os.environ.get("DUCH_HAMMING_LEVEL") or levels()[0]
        set_level(wanted, source="DUCH_HAMMING_LEVEL")
    return _chosen or NUMPY


def levels() -> tuple[str, ...]:
    """Kernels that this processor can run, best first; numpy is always the last.

    Raises:
        NativeError: see `library`.
    """
    loaded = load()
    found: list[str] = []
    while loaded is not None and (name := loaded.hamming_available_level(len(found))) is not None:
        found.append(name.decode())
    return (*found, NUMPY)


def set_level(name: str, *, source: str = "level") -> None:
    """Use these kernels from now on, in every thread.

    Raises:
        ConfigError: not a level, or not one of this processor.
        NativeError: see `library`.
    """
    global _chosen  # noqa: PLW0603  one process has one level, as the library has
    if name != NUMPY:  # a library that does not load keeps nobody from NumPy
        loaded, found = load(), levels()
        if loaded is None or name not in found:
            raise ConfigError(f"{source} is {name!r}; wanted one that runs here: {', '.join(found)}")
        loaded.hamming_set_level(name.encode())
    _chosen = name


def thread_count(threads: int) -> int:
    """How many threads a search is to ask the library for. threads: 0 for one a core."""
    return min(threads or len(os.sched_getaffinity(0)), MAX_THREADS)


def source_sha256(folder: Path) -> str:
    """sha256 over the names and contents of the C sources in a folder, as hatch_build.py computes it."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.suffix in (".c", ".h"):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def load() -> ctypes.CDLL | None:
    """The library, whichever level is in use; None where there is none.

    Raises:
        NativeError: see `library`.
    """
    if not LIBRARY.exists():
        if os.environ.get("DUCH_REQUIRE_NATIVE") == "1":
            raise NativeError(f"{LIBRARY.name} is missing and DUCH_REQUIRE_NATIVE is 1; {_remedy()}")
        return None
    try:
        loaded = ctypes.CDLL(str(LIBRARY))
        loaded.hamming_source_sha256.restype = ctypes.c_char_p
        built_from = loaded.hamming_source_sha256().decode()
        _declare(loaded)
    except (OSError, AttributeError) as error:
        raise NativeError(f"{LIBRARY.name} cannot be loaded ({error}); {_remedy()}") from None
    if _in_checkout() and built_from != source_sha256(SOURCES):
        raise NativeError(f"{LIBRARY.name} was built from other sources than runtime/native; {_remedy()}")
    return loaded


def _in_checkout() -> bool:
    # By a file, as beside an installed duch lies whatever else is installed.
    return (SOURCES / "hamming.c").is_file()


def _remedy() -> str:
    build = "run: make native" if _in_checkout() else "install a wheel that was built for this machine"
    return f"{build}, or set DUCH_HAMMING_LEVEL=numpy to search without it"


def _declare(loaded: ctypes.CDLL) -> None:
    """Types of the functions in hamming.h, mih.h and region.h."""
    pointer, number, gallery = ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(Gallery)
    loaded.hamming_available_level.argtypes, loaded.hamming_available_level.restype = (ctypes.c_int,), ctypes.c_char_p
    loaded.hamming_set_level.argtypes = (ctypes.c_char_p,)
    loaded.hamming_top_k.argtypes = (gallery, pointer, number, number, ctypes.c_int, pointer, pointer)
    loaded.hamming_within.argtypes = (
        *(gallery, pointer, number, number, ctypes.c_int),
        *(number, pointer, pointer, pointer),
    )
    loaded.mih_build.argtypes = (pointer, pointer, number, ctypes.c_int32)
    loaded.mih_search.argtypes = (
        *(pointer, pointer, number, number, number),
        *(ctypes.c_double, ctypes.c_int, pointer, pointer, pointer),
    )
    loaded.region_select.argtypes = (pointer, ctypes.c_size_t, pointer, pointer)
