"""Write requirements-edge.txt: the edge's versions of constraints.txt with their hashes. `make lock` runs it.

Downloads every wheel for Linux x86-64 and aarch64 on the supported Pythons, so it also shows that they exist.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ("click", "flatbuffers", "numpy", "onnxruntime", "packaging", "pillow", "protobuf", "tokenizers")
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
GLIBC = (17, 24, 26, 27, 28, 31, 34)  # pip matches a manylinux tag exactly, so all that are in use are named
ROOT = Path(__file__).parents[1]
HEAD = """\
# The edge, hash-pinned, for Linux x86-64 and aarch64 on Python 3.11 to 3.13. Install with:
#     pip install --no-deps --require-hashes -r requirements-edge.txt
# --no-deps leaves out the hub client that tokenizers asks for and the runtime never imports.
# Written by `make lock` from constraints.txt: the same versions as the tests run.

"""


def wheels(pins: list[str], python: str, machine: str, folder: Path) -> list[Path]:
    """Download the wheels that pip would install on such a machine."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC] + [f"manylinux2014_{machine}"]
    platforms = [part for tag in tags for part in ("--platform", tag)]
    options = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", *options, "-d", folder, *pins], check=True)
    return list(folder.glob("*.whl"))


def main() -> None:
    """Download, hash, write."""
    lock = (ROOT / "constraints.txt").read_text()
    pins = [line for line in lock.splitlines() if line.partition("==")[0] in PACKAGES]
    hashes: dict[str, set[str]] = {pin: set() for pin in pins}
    with tempfile.TemporaryDirectory() as scratch:
        for python in PYTHONS:
            for machine in MACHINES:
                for wheel in wheels(pins, python, machine, Path(scratch, f"{python}-{machine}")):
                    (pin,) = (pin for pin in pins if re.match(re.escape(pin.replace("==", "-") + "-"), wheel.name))
                    hashes[pin].add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    entries = [
        " \\\n".join([pin, *(f"    --hash=sha256:{digest}" for digest in sorted(digests))])
        for pin, digests in hashes.items()
    ]
    (ROOT / "requirements-edge.txt").write_text(HEAD + "\n".join(entries) + "\n")


if __name__ == "__main__":
    main()
