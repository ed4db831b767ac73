"""The native library: which kernels are chosen, and what is said of a library that is missing, stale or broken."""

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from duch import native
from duch.errors import ConfigError, NativeError

HATCH_BUILD = native.SOURCES.parent.parent / "hatch_build.py"
in_checkout = pytest.mark.skipif(not native._in_checkout(), reason="an installed wheel has no sources")


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test loads the library anew, and leaves it as it was."""
    before = native.level()
    monkeypatch.delenv("DUCH_REQUIRE_NATIVE", raising=False)
    monkeypatch.delenv("DUCH_HAMMING_LEVEL", raising=False)
    monkeypatch.setattr(native, "_chosen", None)
    native.load.cache_clear()
    yield
    monkeypatch.undo()
    native.load.cache_clear()
    native.set_level(before)


def in_a_new_process(**environment: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.path[:0] = sys.argv[1:]; from duch import native; print(native.level())"
    folders = [str(Path(native.__file__).parent.parent)]
    return subprocess.run(
        [sys.executable, "-c", code, *folders],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_best_level_comes_first_and_numpy_last() -> None:
    levels = native.levels()
    assert levels[-1] == native.NUMPY
    assert native.level() == levels[0]
    assert (native.library() is None) == (levels == (native.NUMPY,))
    if native.LIBRARY.exists():
        assert levels[-2] == "portable"


def test_numpy_may_be_forced() -> None:
    native.set_level(native.NUMPY)
    assert native.library() is None
    assert native.level() == native.NUMPY


@pytest.mark.parametrize("level", native.levels())
def test_the_environment_chooses_a_level(level: str) -> None:
    assert in_a_new_process(DUCH_HAMMING_LEVEL=level).stdout == f"{level}\n"


@pytest.mark.parametrize("level", ["sse9", "", "AVX2", "portable\0", "\udcff"])
def test_a_level_that_is_not_there_is_one_line(level: str) -> None:
    with pytest.raises(ConfigError) as caught:
        native.set_level(level)
    assert str(caught.value).startswith(f"level is {level!r}; wanted one that runs here: ")
    assert str(caught.value).endswith(native.NUMPY)


def test_the_environment_may_not_choose_what_is_not_there() -> None:
    run = in_a_new_process(DUCH_HAMMING_LEVEL="sse9")
    assert "ConfigError: DUCH_HAMMING_LEVEL is 'sse9'; wanted one that runs here: " in run.stderr


def test_without_a_library_numpy_searches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "missing.so")
    assert native.levels() == (native.NUMPY,)
    assert native.library() is None
    with pytest.raises(ConfigError, match="level is 'portable'; wanted one that runs here: numpy"):
        native.set_level("portable")


def test_a_library_that_is_required_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "missing.so")
    monkeypatch.setenv("DUCH_REQUIRE_NATIVE", "1")
    with pytest.raises(NativeError, match=r"missing\.so is missing and DUCH_REQUIRE_NATIVE is 1; "):
        native.level()


def test_a_file_that_is_no_library_is_told_and_numpy_can_do_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF and no more")
    monkeypatch.setattr(native, "LIBRARY", broken)
    with pytest.raises(NativeError, match=r"broken\.so cannot be loaded .*DUCH_HAMMING_LEVEL=numpy"):
        native.level()
    monkeypatch.setenv("DUCH_HAMMING_LEVEL", native.NUMPY)
    assert native.level() == native.NUMPY


@in_checkout
def test_a_library_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not native.LIBRARY.exists():
        pytest.skip("no library was built")
    for file in native.SOURCES.glob("*.[ch]"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    assert native.level() != native.NUMPY
    native.load.cache_clear()
    monkeypatch.setattr(native, "_chosen", None)
    (tmp_path / "hamming.h").write_text("/* edited */\n")
    with pytest.raises(NativeError, match="was built from other sources than runtime/native; run: make native"):
        native.level()


# ---- hatch_build.py ----


@pytest.fixture
def hatch_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The build script, with its sources and its result in a folder of the test's."""
    if not HATCH_BUILD.exists():
        pytest.skip("an installed wheel has no build script")
    spec = importlib.util.spec_from_file_location("hatch_build", HATCH_BUILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sources = tmp_path / "native"
    sources.mkdir()
    for name in ("one.c", "two.c", "one.h", "example.c", "notes.txt"):
        (sources / name).write_text(f"/* {name} */\n")
    for name, value in (("ROOT", tmp_path), ("SOURCES", sources), ("LIBRARY", tmp_path / "library.so")):
        monkeypatch.setattr(module, name, value)
    for name in ("CC", "CFLAGS", "DUCH_NATIVE", "DUCH_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    return module


def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A compiler that is a shell script; $out is the file it is asked for."""
    script = tmp_path / "fakecc"
    head = '#!/bin/sh\nfor word in "$@"; do [ "$last" = -o ] && out=$word; last=$word; done\n'
    script.write_text(f"{head}{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CC", f"{script} -m64")


def test_the_two_checksums_of_the_sources_are_one(hatch_build: ModuleType) -> None:
    checksum = native.source_sha256(hatch_build.SOURCES)
    assert hatch_build.source_sha256(hatch_build.SOURCES) == checksum
    (hatch_build.SOURCES / "notes.txt").write_text("other words")
    assert native.source_sha256(hatch_build.SOURCES) == checksum
    (hatch_build.SOURCES / "two.c").rename(hatch_build.SOURCES / "three.c")
    assert native.source_sha256(hatch_build.SOURCES) != checksum


def test_all_sources_but_the_example_are_compiled(
    hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler(tmp_path, monkeypatch, 'echo "$@" > "$out"')
    monkeypatch.setenv("CFLAGS", "-O1 -g")
    assert hatch_build.build_in_place()
    words = (tmp_path / "library.so").read_text().split()
    assert words[0] == "-m64"
    assert [Path(word).name for word in words if word.endswith(".c")] == ["one.c", "two.c"]
    assert words[-2:] == ["-O1", "-g"]
    assert f'-DDUCH_SOURCE_SHA256="{native.source_sha256(hatch_build.SOURCES)}"' in words


def make_native(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, folder / "hatch_build.py"],
        env={**os.environ, "CC": "cc", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not HATCH_BUILD.exists() or shutil.which("cc") is None, reason="no build script or no C compiler")
def test_a_library_is_built_again_unless_it_is_of_these_sources_and_this_machine(tmp_path: Path) -> None:
    checkout = tmp_path / "a 'checkout'"
    (checkout / "runtime/native").mkdir(parents=True)
    (checkout / "runtime/duch").mkdir()
    shutil.copyfile(HATCH_BUILD, checkout / "hatch_build.py")
    source, library = checkout / "runtime/native/one.c", checkout / "runtime/duch/libduch_native.so"
    source.write_text("const char *hamming_source_sha256(void) { return DUCH_SOURCE_SHA256; }\n")
    os.utime(checkout / "hatch_build.py", (0, 0))
    built = f"built {library.relative_to(checkout)}\n"
    assert make_native(checkout).stdout == built
    made = library.read_bytes()
    assert make_native(checkout).stdout == ""
    source.rename(source.with_name("two.c"))
    assert make_native(checkout).stdout == built
    library.write_bytes(made)
    assert make_native(checkout).stdout == built
    made = library.read_bytes()
    library.write_bytes(made[:18] + bytes([made[18] ^ 1]) + made[19:])  # another processor in the ELF header
    assert make_native(checkout).stdout == built
    os.utime(library, (0, 0))
    assert make_native(checkout).stdout == built
    assert make_native(checkout, DUCH_NATIVE="0").stdout == ""
    assert list(library.parent.iterdir()) == []


def test_a_failed_compilation_is_an_error_and_keeps_the_old_library(
    hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "library.so").write_text("old")
    compiler(tmp_path, monkeypatch, 'echo half > "$out"; echo "one.c:1: error: what is this" >&2; exit 1')
    with pytest.raises(SystemExit) as caught:
        hatch_build.build_in_place()
    assert "failed; DUCH_NATIVE=0 builds without the native library" in str(caught.value)
    assert "one.c:1: error: what is this" in capsys.readouterr().err
    assert (tmp_path / "library.so").read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fakecc", "library.so", "native"]


@pytest.mark.parametrize("setting", [{"PATH": ""}, {"DUCH_NATIVE": "0"}], ids=["no compiler", "DUCH_NATIVE=0"])
def test_without_a_compiler_there_is_no_library_nor_an_old_one(
    hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: dict[str, str]
) -> None:
    (tmp_path / "library.so").write_text("old")
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    assert not hatch_build.build_in_place()
    assert not (tmp_path / "library.so").exists()
    monkeypatch.setenv("DUCH_REQUIRE_NATIVE", "1")
    with pytest.raises(SystemExit, match="but DUCH_REQUIRE_NATIVE is 1"):
        hatch_build.build_in_place()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CC", "no-such-cc -m64", "CC is 'no-such-cc -m64', which is not there; wanted a C compiler, or CC unset"),
        ("CC", "cc '-m64", """CC is "cc '-m64", which cannot be read: No closing quotation"""),
        ("CC", "true", "true .* failed; DUCH_NATIVE=0 builds without the native library"),  # and writes nothing
        ("CFLAGS", '"', """CFLAGS is '"', which cannot be read: No closing quotation"""),
    ],
)
def test_a_compiler_that_cannot_be_used_is_one_line(
    hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, message: str
) -> None:
    compiler(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit, match=message):
        hatch_build.build_in_place()


@pytest.mark.parametrize(
    ("target", "environment", "inside", "tag"),
    [
        ("wheel", {"DUCH_PLATFORM": "linux_aarch64"}, ["duch/library.so"], "py3-none-linux_aarch64"),
        ("wheel", {"DUCH_NATIVE": "0"}, [], None),
        ("sdist", {}, [], None),
    ],
)
def test_the_wheel_says_whether_it_holds_a_library(
    hatch_build: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    target: str,
    environment: dict[str, str],
    inside: list[str],
    tag: str | None,
) -> None:
    compiler(tmp_path, monkeypatch, 'echo library > "$out"')
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    hook = hatch_build.CustomBuildHook.__new__(hatch_build.CustomBuildHook)
    monkeypatch.setattr(type(hook), "target_name", target, raising=False)
    data: dict[str, Any] = {"force_include": {}, "pure_python": True}
    (tmp_path / "library.so").write_text("this machine's own")
    hook.initialize("standard", data)
    assert list(data["force_include"].values()) == inside
    assert [Path(file).read_text() for file in data["force_include"]] == ["library\n"] * len(inside)
    assert data.get("tag") == tag
    assert data["pure_python"] is (tag is None)
    hook.finalize("standard", data, "a.whl")
    assert not any(Path(file).exists() for file in data["force_include"])
    assert (tmp_path / "library.so").read_text() == "this machine's own"
