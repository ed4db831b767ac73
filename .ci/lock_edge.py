"""Write requirements-edge.txt and requirements-geo.txt: versions of constraints.txt with their hashes, for `make lock`.

Downloads every wheel for Linux x86-64 and aarch64 on the supported Pythons, so it also shows that they exist.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EDGE = {"click", "flatbuffers", "numpy", "onnxruntime", "packaging", "pillow", "protobuf", "tokenizers"}
GEO = {"rasterio", "shapely", "pystac"}
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
GLIBC = (17, 24, 26, 27, 28, 31, 34)  # pip matches a manylinux tag exactly, so all that are in use are named
ROOT = Path(__file__).parents[1]
EDGE_HEAD = """\
# The edge, hash-pinned, for Linux x86-64 and aarch64 on Python 3.11 to 3.13. Install with:
#     pip install --no-deps --require-hashes -r requirements-edge.txt
# --no-deps leaves out the hub client that tokenizers asks for and the runtime never imports.
# Written by `make lock` from constraints.txt: the same versions as the tests run.

"""
GEO_HEAD = """\
# What the extra geo adds to requirements-edge.txt, hash-pinned likewise. Install both with:
#     pip install --no-deps --require-hashes -r requirements-edge.txt -r requirements-geo.txt
# Written by `make lock` from constraints.txt: the same versions as the tests run.

"""


def with_dependencies(names: set[str]) -> set[str]:
    """Packages and what they need, as it is installed here."""
    found: set[str] = set()
    pending = set(names)
    while pending:
        found |= pending
        wanted = (Requirement(line) for name in pending for line in requires(name) or ())
        here = {canonicalize_name(one.name) for one in wanted if one.marker is None or one.marker.evaluate()}
        pending = here - found
    return found


def wheels(pins: list[str], python: str, machine: str, folder: Path) -> list[Path]:
    """Download the wheels that pip would install on such a machine."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC] + [f"manylinux2014_{machine}"]
    platforms = [part for tag in tags for part in ("--platform", tag)]
    options = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", *options, "-d", folder, *pins], check=True)
    return list(folder.glob("*.whl"))


def pin_of(wheel: Path) -> str:
    """The requirement that a wheel answers, as it stands in the lock."""
    name, version = wheel.name.split("-")[:2]
    return f"{canonicalize_name(name)}=={version}"


def write(file: Path, head: str, packages: set[str]) -> None:
    """Download, hash, write."""
    lock = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lock if canonicalize_name(line.partition("==")[0]) in packages]
    hashes: dict[str, set[str]] = {
        re.sub("^[^=]+", lambda name: canonicalize_name(name[0]), pin): set() for pin in pins
    }
    with tempfile.TemporaryDirectory() as scratch:
        for python in PYTHONS:
            for machine in MACHINES:
                for wheel in wheels(pins, python, machine, Path(scratch, f"{python}-{machine}")):
                    hashes[pin_of(wheel)].add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    entries = [
        " \\\n".join([pin, *(f"    --hash=sha256:{digest}" for digest in sorted(digests))])
        for pin, digests in hashes.items()
    ]
    file.write_text(head + "\n".join(entries) + "\n")


def main() -> None:
    """Write both."""
    write(ROOT / "requirements-edge.txt", EDGE_HEAD, EDGE)
    write(ROOT / "requirements-geo.txt", GEO_HEAD, with_dependencies(GEO) - EDGE)


if __name__ == "__main__":
    main()
