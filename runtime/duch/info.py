"""What a folder is: a bundle, a checkpoint or a gallery, and what is worth knowing of it.

    describe("bundle/")["fingerprint"]

A checkpoint is read as the JSON that it is, so the edge can look at one without torch. What a file says of itself is
shown and believed in nothing: values that have another type than they should are left out.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .bundle import read_bundle
from .catalog import is_gallery
from .display import display_path, printable
from .errors import BundleError, CheckpointError, DuchError, InputError
from .gallery import Gallery
from .manifest import HASHED_FILES, MANIFEST

_CHECKPOINT_FORMAT, _CHECKPOINT_VERSION = "duch-checkpoint", 1
_CONFIG, _RUN = "config.json", "run.json"
_KINDS = f"a bundle ({MANIFEST}), a checkpoint ({_CONFIG}) or a gallery (catalog.sqlite)"
_SHOWN_NAMES = 3

Description = dict[str, Any]


def describe(path: str | os.PathLike[str]) -> Description:
    """What is known of a bundle, checkpoint or gallery, as JSON values. Sizes are bytes.

    The hashes of a bundle are checked. Members: `kind`, `path`, `n_bits`, `files` (name -> size) and those of the kind.

    Raises:
        InputError: the path is none of the three kinds.
        BundleError: a bundle that cannot be used.
        CheckpointError: an unfinished run, or a checkpoint that cannot be read.
        GalleryError: a gallery that cannot be used.
    """
    folder = Path(path)
    name = display_path(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{name} {found}; wanted a folder: {_KINDS}")
    if is_gallery(folder):
        return {"kind": "gallery", "path": name, **_gallery(folder)}
    if (folder / MANIFEST).exists():
        return {"kind": "bundle", "path": name, **_bundle(folder)}
    if (folder / _CONFIG).exists():
        return {"kind": "checkpoint", "path": name, **_checkpoint(folder)}
    if (folder / _RUN).exists() and "data_sha256" in _read_object(folder / _RUN):
        raise CheckpointError(f"{name} holds an unfinished training run; finish it with `duch train ... --resume`")
    raise InputError(f"{name} holds {_names(folder)}; wanted {_KINDS}")


def _bundle(folder: Path) -> Description:
    bundle = read_bundle(folder)
    manifest = bundle.manifest
    return {
        "format_version": manifest.format_version,
        "n_bits": manifest.n_bits,
        "fingerprint": manifest.fingerprint,
        "preprocessing": {"image": asdict(manifest.image), "text": asdict(manifest.text)},
        "graphs": {"image": asdict(manifest.image_graph), "text": asdict(manifest.text_graph)},
        "gate": asdict(manifest.gate),
        "report": manifest.report,
        "provenance": manifest.provenance,
        "files": _sizes(folder, (MANIFEST, *HASHED_FILES)),
    }


def _checkpoint(folder: Path) -> Description:
    file = folder / _CONFIG
    name = display_path(file)
    config = _read_object(file)
    version = config.get("format_version")
    if config.get("format") != _CHECKPOINT_FORMAT or not isinstance(version, int):
        raise InputError(f"{name} is not the config of a duch checkpoint; wanted {_KINDS}")
    if version > _CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{name} has checkpoint format {version}, this duch reads up to {_CHECKPOINT_VERSION}; upgrade duch"
        )
    sides = ("image", "text")
    return {
        "format_version": version,
        "n_bits": member(config, "train", "n_bits"),
        # A run on feature files has no encoders, only widths of features.
        "preprocessing": {side: member(config, side, "preprocessing") for side in sides},
        "n_features": {side: member(config, side, "n_features") for side in sides},
        "backbones": {side: member(config, side, "backbone", "model_type") for side in sides},
        "provenance": {key: config.get(key) for key in ("train", "split_sha256", "facts")},
        "files": _sizes(folder, sorted(os.listdir(folder))),
    }


def _gallery(folder: Path) -> Description:
    with Gallery.open(folder) as gallery:
        live = {"image": gallery.count("image"), "text": gallery.count("text")}
        root, hint = gallery.root, gallery.bundle_hint
        return {
            "n_bits": gallery.n_bits,
            "fingerprint": gallery.fingerprint,
            "tiles": live,
            "removed": len(gallery.codes) - sum(live.values()),
            "tables": {"rows": gallery.rows_in_tables, "problem": gallery.tables_problem},
            "indexed": gallery.indexed_attributes(),
            "root": None if root is None else {"path": display_path(root), "exists": root.is_dir()},
            "bundle": None if hint is None else {"path": display_path(hint), "state": _state(hint, gallery)},
            "files": _sizes(folder, sorted(os.listdir(folder))),
        }


def _state(hint: Path, gallery: Gallery) -> str:
    """Whether the bundle that a gallery remembers is there, whole, and the one that made the codes."""
    if not hint.exists():
        return "missing"
    try:
        bundle = read_bundle(hint)
        gallery.check_bundle(fingerprint=bundle.fingerprint, n_bits=bundle.n_bits)
    except BundleError as error:
        return f"cannot be used: {error}"
    except DuchError:
        return f"another one: fingerprint {bundle.fingerprint}"
    return "matches"


def member(value: Any, *keys: str) -> Any:
    """A member of nested JSON objects; None where one is missing or no object."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _read_object(file: Path) -> dict[str, Any]:
    try:
        # A loss may be NaN, which is no JSON.
        value = json.loads(file.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{display_path(file)} cannot be read: {error}; copy the checkpoint again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{display_path(file)} holds no JSON object; copy the checkpoint again")
    return value


def _sizes(folder: Path, names: tuple[str, ...] | list[str]) -> dict[str, int]:
    return {printable(name): (folder / name).stat().st_size for name in names if (folder / name).is_file()}


def _names(folder: Path) -> str:
    names = sorted(os.listdir(folder))
    if not names:
        return "nothing"
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(display_path(name) for name in names[:_SHOWN_NAMES]) + more
