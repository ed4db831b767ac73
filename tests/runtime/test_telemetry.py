"""onnxruntime keeps to itself: it tells nobody of what it runs, and leaves nothing in the user's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TINY = Path(__file__).parents[1] / "tiny_bundle"
CODE = """
import sys
from duch import Encoder
encoder = Encoder(sys.argv[1], threads=1)
encoder.encode_texts(["a forest"])
"""


def test_coding_writes_nothing_below_the_home_folder(tmp_path: Path) -> None:
    # 1.31 collects its messages in a database there until it reaches a server, some seconds after it was imported.
    env = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    env |= {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", CODE, TINY], env=env, check=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
