"""Build the native library: a hatchling build hook, and a script that builds in place.

    python hatch_build.py        compile runtime/native/*.c into runtime/duch/, unless that is done (`make native`)
    pip wheel .                  the same, and the wheel is tagged for its platform

Where there is no C compiler the wheel holds no library and is tagged py3-none-any: duch then searches with NumPy.

Environment:
    CC                      the compiler; else cc, gcc or clang. May carry options ("ccache gcc").
    CFLAGS                  more options, put last.
    DUCH_NATIVE=0           build no library; in place, take away the one that is there.
    DUCH_REQUIRE_NATIVE=1   no compiler is an error.
    DUCH_PLATFORM           the wheel's platform when CC is a cross compiler, such as linux_aarch64.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, in an environment without hatchling
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "runtime/native"
LIBRARY = ROOT / "runtime/duch/libduch_native.so"
EXAMPLE = "example.c"  # a program of its own
OPTIONS = ["-std=c11", "-O3", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra"]


def source_sha256(folder: Path) -> str:
    """As duch.native computes it, which compares the two before it uses the library."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.suffix in (".c", ".h"):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def words_of(variable: str) -> list[str]:
    """The words of an environment variable, quoted as in a shell."""
    value = os.environ.get(variable, "")
    try:
        return shlex.split(value)
    except ValueError as error:
        sys.exit(f"{variable} is {value!r}, which cannot be read: {error}")


def compiler() -> list[str] | None:
    """The compiler's command, or None where there is none."""
    if given := os.environ.get("CC"):
        command = words_of("CC")
        if not command or shutil.which(command[0]) is None:
            sys.exit(f"CC is {given!r}, which is not there; wanted a C compiler, or CC unset")
        return command
    return next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


def compile_library(library: Path) -> bool:
    """Compile the sources into a library; False where none is to be had, with a line that says why."""
    wanted = os.environ.get("DUCH_NATIVE") != "0"
    command = compiler() if wanted else None
    if command is None:
        why = "no C compiler was found" if wanted else "DUCH_NATIVE is 0"
        if os.environ.get("DUCH_REQUIRE_NATIVE") == "1":
            sys.exit(f"{why}, but DUCH_REQUIRE_NATIVE is 1; install gcc, set CC, or unset either")
        print(f"{why}: no native library; duch searches with NumPy", file=sys.stderr)
        return False
    sources = sorted(str(file) for file in SOURCES.glob("*.c") if file.name != EXAMPLE)
    options = [*OPTIONS, f'-DDUCH_SOURCE_SHA256="{source_sha256(SOURCES)}"', "-o", str(library)]
    line = [*command, *options, *sources, *words_of("CFLAGS")]
    run = subprocess.run(line, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    sys.stderr.write(run.stderr)
    if run.returncode or not library.exists():
        sys.exit(f"{shlex.join(line)} failed; DUCH_NATIVE=0 builds without the native library")
    return True


def build_in_place() -> bool:
    """Put the library beside duch's modules; where none is to be had, an old one goes, for it would be wrong."""
    # Compiled beside and renamed, as another process may have the old library mapped. What a killed build leaves is
    # named as a library, which git and the wheel leave out.
    made = LIBRARY.with_name(f"{LIBRARY.stem}-{os.getpid()}.so")
    try:
        if not compile_library(made):
            LIBRARY.unlink(missing_ok=True)
            return False
        made.replace(LIBRARY)
    finally:
        with suppress(OSError):  # most often it has been renamed
            made.unlink()
    return True


def is_fresh() -> bool:
    """Whether the library in place is for this machine, and from the sources as they are and this script as it is."""
    if not LIBRARY.exists() or LIBRARY.stat().st_mtime <= Path(__file__).stat().st_mtime:
        return False
    try:  # It is asked, as duch will ask it. Times do not tell of a source that was renamed or taken away.
        told = ctypes.CDLL(str(LIBRARY)).hamming_source_sha256
    except (OSError, AttributeError):
        return False
    told.restype = ctypes.c_char_p
    return bool(told().decode() == source_sha256(SOURCES))


def platform_tag() -> str:
    """The wheel's platform: this machine's, or the one that CC compiles for."""
    return os.environ.get("DUCH_PLATFORM") or sysconfig.get_platform().replace("-", "_").replace(".", "_")


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Compiles before the wheel is put together; an sdist carries the sources alone."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and tell hatchling of the library and the tag. `version` is "standard" or "editable"."""
        if self.target_name != "wheel":
            return
        if version == "editable":
            build_in_place()
            return
        # Not in place: a wheel for another platform leaves the checkout's own library alone.
        self._folder = tempfile.TemporaryDirectory(prefix="duch-native-")
        library = Path(self._folder.name) / LIBRARY.name
        if compile_library(library):
            build_data["force_include"][str(library)] = f"duch/{LIBRARY.name}"
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform_tag()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Clear up after the wheel has been written."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()


if __name__ == "__main__":
    wanted = os.environ.get("DUCH_NATIVE") != "0"
    if not (wanted and is_fresh()) and build_in_place():
        print(f"built {LIBRARY.relative_to(ROOT)}")
