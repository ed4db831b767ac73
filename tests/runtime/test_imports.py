"""The edge stays light: no module of the runtime pulls in what only training and export need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[2] / "runtime" / "duch"
MODULES = ["duch", *(f"duch.{file.stem}" for file in sorted(RUNTIME.glob("*.py")) if file.stem != "__init__")]
HEAVY = {"torch", "transformers", "onnx", "onnxscript", "optimum", "duch_training", "duch_export"}


def loaded_after(statement: str) -> set[str]:
    """Top-level packages in sys.modules of a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", MODULES)
def test_runtime_module_imports_nothing_heavy(module: str) -> None:
    assert not loaded_after(f"import {module}") & HEAVY


def test_importing_duch_does_not_start_onnxruntime() -> None:
    assert "onnxruntime" not in loaded_after("import duch")
    assert "onnxruntime" not in loaded_after("import duch.encoder")


def test_coding_a_sentence_imports_nothing_heavy() -> None:
    tiny = RUNTIME.parents[1] / "tests" / "tiny_bundle"
    loaded = loaded_after(f"from duch.encoder import Encoder\nEncoder({str(tiny)!r}).encode_texts(['a river'])")
    assert "onnxruntime" in loaded
    assert not loaded & HEAVY


def test_the_front_door_exports_what_is_there() -> None:
    import duch

    assert sorted(duch.__all__) == duch.__all__
    for name in duch.__all__:
        assert getattr(duch, name).__module__.startswith("duch.")
