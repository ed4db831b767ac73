"""The edge stays light: no module of the runtime pulls in what only training and export need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from duch.encoder import Encoder
from duch.ingest import index_images

RUNTIME = Path(__file__).parents[2] / "runtime" / "duch"
TINY = RUNTIME.parents[1] / "tests" / "tiny_bundle"
MODULES = ["duch", *(f"duch.{file.stem}" for file in sorted(RUNTIME.glob("*.py")) if file.stem != "__init__")]
HEAVY = {"torch", "transformers", "onnx", "onnxscript", "optimum", "pyarrow", "duch_training", "duch_export"}
HEAVY |= {"rasterio", "shapely", "pystac"}


def loaded_after(statement: str) -> set[str]:
    """Top-level packages in sys.modules of a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_no_module_of_the_runtime_imports_anything_heavy() -> None:
    """One interpreter for all of them: what is heavy would be there after the first module that asks for it."""
    code = (
        "import importlib, sys\n"
        f"for module in {MODULES}:\n"
        "    importlib.import_module(module)\n"
        f"    heavy = {HEAVY} & set(sys.modules)\n"
        "    assert not heavy, (module, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_duch_does_not_start_onnxruntime() -> None:
    assert "onnxruntime" not in loaded_after("import duch")
    assert "onnxruntime" not in loaded_after("import duch.encoder")


def test_coding_a_sentence_imports_nothing_heavy() -> None:
    loaded = loaded_after(f"from duch.encoder import Encoder\nEncoder({str(TINY)!r}).encode_texts(['a river'])")
    assert "onnxruntime" in loaded
    assert not loaded & HEAVY


def test_the_front_door_exports_what_is_there() -> None:
    import duch

    assert sorted(duch.__all__) == duch.__all__
    for name in duch.__all__:
        assert getattr(duch, name).__module__.startswith("duch.")


def modules_of(*arguments: str) -> set[str]:
    """All modules in sys.modules after a command that succeeds."""
    code = (
        "import sys\nfrom duch.cli import main\n"
        f"try: main({list(arguments)!r})\n"
        "except SystemExit as ended: assert not ended.code, ended.code\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imports")
    Image.new("RGB", (40, 36), (30, 90, 200)).save(folder / "a.png")
    index_images(Encoder(TINY), folder, folder / "gallery")
    return folder / "gallery"


def test_words_are_searched_without_a_module_for_images(gallery: Path) -> None:
    loaded = modules_of("search", str(gallery), "a river")
    assert {"onnxruntime", "tokenizers", "duch.gallery"} <= loaded
    needless = {"PIL", "duch.sheet", "duch.ingest", "duch.decode", "importlib.metadata", "numpy.ma"}
    assert not loaded & (needless | HEAVY)


def test_an_image_is_searched_without_a_tokenizer(gallery: Path) -> None:
    loaded = modules_of("search", str(gallery), "--image", str(gallery.parent / "a.png"))
    assert "PIL.Image" in loaded
    assert not loaded & ({"tokenizers", "duch.sheet", "duch.ingest"} | HEAVY)


@pytest.mark.parametrize("command", ["encode", "index", "search", "query", "answer", "hits"])
def test_help_imports_nothing_that_takes_long(command: str) -> None:
    assert not modules_of(command, "--help") & ({"numpy", "PIL", "tokenizers", "onnxruntime"} | HEAVY)
