"""hamming.c by itself, under sanitizers, valgrind and on another processor; and the example in C."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from duch import native
from duch.gallery import Gallery, Tile
from duch.index import HammingIndex

SOURCES = native.SOURCES
CHECK = Path(__file__).with_name("hamming_check.c")
WARNINGS = ["-std=c11", "-pthread", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-Wno-psabi"]
SANITIZED = ["-O1", "-g", "-fno-sanitize-recover=all"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SOURCES / "hamming.c").exists(), reason="an installed wheel has no sources"),
]


def build(tmp_path: Path, compiler: str, *options: str, sources: tuple[Path, ...]) -> Path:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    program = tmp_path / "program"
    subprocess.run([compiler, *WARNINGS, *options, f"-I{SOURCES}", *sources, "-o", program], check=True)
    return program


def check(*command: str | Path) -> list[str]:
    """Run the check; the levels that it ran."""
    # The check asks for more memory than there is, to see that told.
    options = "allocator_may_return_null=1"
    environment = {"ASAN_OPTIONS": options, "TSAN_OPTIONS": options}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("compiler", "options", "rounds"),
    [
        ("gcc", ["-O3"], 300),
        ("gcc", ["-O2", "-DDUCH_NO_THREADS"], 100),
        ("gcc", [*SANITIZED, "-fsanitize=address,undefined"], 150),
        ("gcc", [*SANITIZED, "-fsanitize=thread"], 30),
        ("clang", ["-O3"], 300),
        ("clang", [*SANITIZED, "-fsanitize=address,undefined"], 40),
    ],
    ids=["gcc", "no threads", "gcc asan ubsan", "gcc tsan", "clang", "clang asan ubsan"],
)
def test_every_level_equals_a_plain_loop(tmp_path: Path, compiler: str, options: list[str], rounds: int) -> None:
    program = build(tmp_path, compiler, *options, sources=(CHECK, SOURCES / "hamming.c"))
    assert check(program, str(rounds)) == list(native.levels()[:-1])


def test_a_processor_without_a_level_of_its_own_has_the_portable_one(tmp_path: Path) -> None:
    program = build(tmp_path, "gcc", "-O2", "-DDUCH_PORTABLE", sources=(CHECK, SOURCES / "hamming.c"))
    assert check(program, "100") == ["portable"]


def test_valgrind_finds_nothing(tmp_path: Path) -> None:
    if (valgrind := shutil.which("valgrind")) is None:
        pytest.skip("no valgrind")
    program = build(tmp_path, "gcc", "-O2", "-g", sources=(CHECK, SOURCES / "hamming.c"))
    # It hides AVX-512, which it cannot run.
    assert check(valgrind, "--quiet", "--error-exitcode=9", "--leak-check=full", program, "8")[-1] == "portable"


@pytest.mark.parametrize(
    ("target", "emulator", "levels"),
    [
        ("aarch64-linux-gnu-gcc", "qemu-aarch64", ["neon", "portable"]),
        ("i686-linux-gnu-gcc", "qemu-i386", ["portable"]),  # 32-bit addresses
        ("s390x-linux-gnu-gcc", "qemu-s390x", ["portable"]),  # big-endian integers
    ],
    ids=["neon", "32 bits", "big-endian"],
)
def test_on_an_emulated_processor(tmp_path: Path, target: str, emulator: str, levels: list[str]) -> None:
    if (qemu := shutil.which(emulator)) is None:
        pytest.skip(f"no {emulator}")
    program = build(tmp_path, target, "-O3", "-static", sources=(CHECK, SOURCES / "hamming.c"))
    assert check(qemu, program, "60") == levels


def test_the_example_finds_what_python_finds(tmp_path: Path) -> None:
    some = np.random.default_rng(3).integers(0, 256, (90, 8), dtype=np.uint8)
    with Gallery.writer(tmp_path / "gallery", fingerprint="ab" * 32, n_bits=64, create=True) as out:
        out.append(some, [Tile(id=f"{i}.png", modality="image", uri=f"{i}.png") for i in range(len(some))])
    example = build(tmp_path, "cc", "-O1", sources=(SOURCES / "example.c", SOURCES / "hamming.c"))
    with Gallery.open(tmp_path / "gallery") as gallery:
        codes, file = gallery.codes, next((tmp_path / "gallery").glob("codes-*.bin"))
        query = codes[7:8] ^ np.uint8(5)
        run = subprocess.run(
            [example, file, query.tobytes().hex(), "12"], stdout=subprocess.PIPE, text=True, check=True
        )
        found = [tuple(map(int, line.split())) for line in run.stdout.splitlines()]
        distances, rows = HammingIndex(codes).search(query, 12)
        assert found == list(zip(distances[0].tolist(), rows[0].tolist(), strict=True))
        assert len(found) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.bin", "00" * 8, "3"], "missing.bin: cannot be opened"),
        (["short.bin", "00" * 8, "3"], "short.bin: too short for a codes file"),
        (["other.bin", "00" * 8, "3"], "other.bin: not a codes file"),
        (["codes.bin", "00" * 7, "3"], "not a code of the file's width"),
        (["codes.bin", "0x" * 8, "3"], "not a code of the file's width"),
        (["codes.bin", "00" * 8, "0"], "K: wanted a whole number"),
        (["codes.bin"], "usage: example CODES-FILE"),
    ],
)
def test_the_example_refuses_what_it_cannot_search(tmp_path: Path, arguments: list[str], message: str) -> None:
    example = build(tmp_path, "cc", "-O0", sources=(SOURCES / "example.c", SOURCES / "hamming.c"))
    (tmp_path / "short.bin").write_bytes(b"DUCHCODE")
    (tmp_path / "other.bin").write_bytes(b"x" * 100)
    (tmp_path / "codes.bin").write_bytes(b"DUCHCODE" + bytes([2, 0, 0, 0, 64]) + bytes(51) + bytes(80))
    run = subprocess.run([example, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert message in run.stderr
    assert run.stdout == ""
