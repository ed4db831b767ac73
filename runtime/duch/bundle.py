"""The bundle: the folder that training hands to the edge.

    manifest.json    what the bundle is, the sha256 of the other files, how it was measured
    image.onnx       pixels -> codes, relaxed
    text.onnx        input_ids, attention_mask -> codes, relaxed
    tokenizer.json   sentence -> token ids (Hugging Face tokenizers)
    golden.npz       inputs with the pixels, token ids and codes they must give

BUNDLE.md is the format in prose. Nothing of a bundle is used before the sha256 of all of it is checked. That proves
it whole, not who made it; `expect_fingerprint` pins one that is trusted.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .codes import check_n_bits
from .display import display_path
from .durable import check_place, fsync_folder, rename_folder
from .errors import BundleCorruptError, BundleError, one_line
from .golden import Golden, golden_from_arrays, golden_to_npz
from .manifest import (
    AGAIN,
    FORMAT,
    FORMAT_VERSION,
    HASHED_FILES,
    MANIFEST,
    Gate,
    GraphInfo,
    Manifest,
    fingerprint_of,
    manifest_to_bytes,
    read_manifest,
)
from .preprocess import ImagePreprocessing, TextPreprocessing

__all__ = ["Bundle", "Gate", "Golden", "GraphInfo", "Manifest", "check_writable", "read_bundle", "write_bundle"]


@dataclass(frozen=True)
class Bundle:
    """A bundle. No file of it is used before it has matched its sha256.

    Attributes:
        path: the folder.
        manifest: its checked manifest.
        unchecked: files whose sha256 is still to be compared, when they are first used.
    """

    path: Path
    manifest: Manifest
    unchecked: set[str] = field(default_factory=set, compare=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """64 hex digits that name what the bundle computes; a gallery keeps them."""
        return self.manifest.fingerprint

    @property
    def n_bits(self) -> int:
        """Length of the codes."""
        return self.manifest.n_bits

    @property
    def image(self) -> ImagePreprocessing:
        """How an image becomes pixels."""
        return self.manifest.image

    @property
    def text(self) -> TextPreprocessing:
        """How a sentence becomes token ids."""
        return self.manifest.text

    def file(self, name: str) -> Path:
        """Path of one of its files, whose sha256 has been compared.

        Raises:
            BundleCorruptError: it is missing, cannot be read, or differs from its sha256.
        """
        if name in self.unchecked:
            _check_sha256(self.path / name, self.manifest.sha256[name])
            self.unchecked.discard(name)
        return self.path / name

    def tokenizer_json(self) -> str:
        """Content of tokenizer.json.

        Raises:
            BundleCorruptError: it cannot be read, or differs from its sha256.
        """
        file = self.file("tokenizer.json")
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BundleCorruptError(f"{display_path(file)} cannot be read: {error}; {AGAIN}") from error

    def golden(self) -> Golden:
        """Golden inputs and codes.

        Raises:
            BundleCorruptError: golden.npz differs from its sha256, or does not hold what BUNDLE.md says.
        """
        file = self.file("golden.npz")
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return golden_from_arrays(arrays, self.n_bits, self.image.size)
        except Exception as error:  # a broken npz raises nearly anything
            raise BundleCorruptError(f"{display_path(file)} cannot be used: {one_line(error)}; {AGAIN}") from error


def read_bundle(
    folder: str | os.PathLike[str], *, expect_fingerprint: str | None = None, check_all: bool = True
) -> Bundle:
    """Read the manifest and check the sha256 of every file; nothing is loaded.

    Args:
        folder: the bundle.
        expect_fingerprint: refuse any bundle but this one.
        check_all: False leaves each file to be checked when it is first used. A query needs one graph of the two, and
            reading the other takes longer than the search: 12 MB of sha256 are 26 ms on a CPU without instructions
            for it, and more from a memory card.

    Raises:
        BundleVersionError: written by a newer format version.
        BundleCorruptError: a file is missing, or differs from its sha256, or the manifest makes no sense.
        BundleError: the folder is missing or no bundle, or has another fingerprint than expected.
    """
    path = Path(folder)
    name = display_path(path)
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        raise BundleError(f"{name} {found}; wanted a bundle folder, as `duch export` writes it")
    manifest = read_manifest(path / MANIFEST)
    if expect_fingerprint is not None and manifest.fingerprint != expect_fingerprint.lower():
        raise BundleError(f"{name} has fingerprint {manifest.fingerprint}; expected {expect_fingerprint}")
    bundle = Bundle(path, manifest, unchecked=set(manifest.sha256))
    if check_all:
        for file in manifest.sha256:
            bundle.file(file)
    return bundle


def _check_sha256(file: Path, wanted: str) -> None:
    try:
        with open(file, "rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise BundleCorruptError(
            f"{display_path(file.parent)} has no {file.name}, which its manifest names; {AGAIN}"
        ) from None
    except OSError as error:
        raise BundleCorruptError(f"{display_path(file)} cannot be read: {error.strerror}") from error
    if found != wanted:
        raise BundleCorruptError(
            f"{display_path(file)} has sha256 {found[:12]}..., its manifest says {wanted[:12]}...; {AGAIN}"
        )


def write_bundle(
    folder: str | os.PathLike[str],
    *,
    n_bits: int,
    image: ImagePreprocessing,
    text: TextPreprocessing,
    image_onnx: bytes,
    text_onnx: bytes,
    tokenizer_json: str,
    golden: Golden,
    image_graph: GraphInfo,
    text_graph: GraphInfo,
    gate: Gate | None = None,
    report: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle beside its place, then rename it into place: a crash leaves the old one or the new one.

    Args:
        folder: where; missing or empty, or a bundle if `overwrite`.
        n_bits: length of the codes.
        image: how an image becomes pixels.
        text: how a sentence becomes token ids.
        image_onnx: the image graph, serialised.
        text_onnx: the text graph, serialised.
        tokenizer_json: content of tokenizer.json.
        golden: golden inputs and codes of these very graphs.
        image_graph: what is known of the image graph.
        text_graph: what is known of the text graph.
        gate: whether it passed the tests of its export; by default it did.
        report: parity report, as JSON values.
        provenance: where the bundle comes from, as JSON values.
        overwrite: replace a bundle that is there.

    Raises:
        BundleError: `folder` holds something that must not be replaced, or cannot be written.
        InputError: a value that the format cannot hold.
    """
    # Through a symlink, the folder it points at is replaced and the link stays.
    target = Path(os.path.realpath(folder))
    check_writable(target, overwrite=overwrite)
    payload = {
        "image.onnx": image_onnx,
        "text.onnx": text_onnx,
        "tokenizer.json": tokenizer_json.encode("utf-8"),
        "golden.npz": golden_to_npz(golden),
    }
    sha256 = {file: hashlib.sha256(data).hexdigest() for file, data in payload.items()}
    manifest = Manifest(
        n_bits=check_n_bits(n_bits),
        image=image,
        text=text,
        image_graph=image_graph,
        text_graph=text_graph,
        sha256=sha256,
        fingerprint=fingerprint_of(FORMAT_VERSION, n_bits, image, text, sha256),
        gate=gate or Gate(),
        report=dict(report or {}),
        provenance=dict(provenance or {}),
    )
    payload[MANIFEST] = manifest_to_bytes(manifest)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.writing")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        for file, data in payload.items():
            with open(beside / file, "xb") as stream:
                stream.write(data)
                _fsync(stream)
        fsync_folder(beside)
        rename_folder(beside, target)
        fsync_folder(target.parent)
    except OSError as error:
        raise BundleError(f"{display_path(target)} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return read_bundle(folder)


def check_writable(folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Say early whether `write_bundle` would refuse the folder, before hours of work are lost to it.

    Raises:
        BundleError: the folder holds something that must not be replaced, or nothing can be written there.
    """
    path = Path(folder)
    name = display_path(path)
    try:
        check_place(path)
    except OSError as error:
        raise BundleError(
            f"{name} cannot be written: {display_path(error.filename)}: {error.strerror}; choose another place"
        ) from error
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise BundleError(f"{name} is a file; wanted a new folder for the bundle")
    try:
        held = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise BundleError(f"{name} cannot be read: {error.strerror}") from error
    if not held:
        return
    if not _looks_like_bundle(path):
        raise BundleError(f"{name} is a folder with other files and no bundle; choose a new folder")
    if not overwrite:
        raise BundleError(f"{name} is a bundle already; choose a new folder, or --overwrite to replace it")
    if strangers := sorted(held - {MANIFEST, *HASHED_FILES}):
        raise BundleError(f"{name} also holds {strangers[0]}, which would be lost; move it away first")


def _looks_like_bundle(path: Path) -> bool:
    """Whether manifest.json says so; a damaged bundle may be replaced too."""
    try:
        raw = json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(raw, dict) and raw.get("format") == FORMAT


def _fsync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())
