"""The folder of a report: where it goes, what it may replace, how it gets there whole."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import asdict
from pathlib import Path

from duch.display import display_path, printable
from duch.durable import check_place, rename_folder
from duch.errors import BundleError

from .findings import Findings
from .markdown import markdown
from .plots import PICTURES, draw

_FORMAT = "duch-export-report"
_FILES = ("report.md", "report.json", *PICTURES)


def report_folder_of(bundle: str | os.PathLike[str], report: Path | None) -> Path:
    """Where the report of a bundle goes: where it was asked for, else `BUNDLE-report`."""
    if report is not None:
        return report
    path = Path(bundle)
    if path.name in ("", ".."):  # the working folder or one above it, which has a name of its own
        path = path.resolve()
    return path.with_name(f"{path.name}-report")


def check_report_folder(folder: Path, bundle: str | os.PathLike[str]) -> None:
    """Say early whether a report may be written there: in a new or empty folder, or over an older report.

    Raises:
        BundleError: something else would be lost, it lies in the bundle, which holds its own files alone, or nothing
            can be written there.
    """
    name = display_path(folder)
    try:
        check_place(folder)
    except OSError as error:
        raise BundleError(
            f"the report {name} cannot be written: {display_path(error.filename)}: {error.strerror}; choose another "
            "place with --report"
        ) from error
    if folder.resolve() == Path(bundle).resolve() or Path(bundle).resolve() in folder.resolve().parents:
        raise BundleError(f"the report {name} would lie in the bundle; choose a folder outside it with --report")
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise BundleError(f"{name} is no folder; choose another one for the report with --report")
    held = {entry.name for entry in folder.iterdir()}
    if held and (not _is_report(folder) or held - set(_FILES)):
        stranger = next(iter(sorted(held - set(_FILES))), "report.json")
        raise BundleError(
            f"{name} holds {printable(stranger)}, which is no part of a report of ours and would be lost; choose "
            "another folder with --report"
        )


def write_report(folder: Path, findings: Findings) -> None:
    """Write the report beside its place, then rename it into place.

    Raises:
        BundleError: it cannot be written; an older report stays.
    """
    target = Path(os.path.realpath(folder))  # a link stays, the folder it points at is replaced
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.writing")
    raw = {
        "format": _FORMAT,
        "passed": not findings.failed,
        "checks": [asdict(check) for check in findings.checks],
        "fingerprint": findings.fingerprint,
        "config": findings.config.to_dict(),
        "parity": findings.parity.to_json(),
    }
    try:
        beside.mkdir(parents=True)
        (beside / "report.json").write_text(json.dumps(raw, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (beside / "report.md").write_text(markdown(findings), encoding="utf-8")
        draw(beside, findings.parity)
        rename_folder(beside, target)
    except OSError as error:
        raise BundleError(f"the report {display_path(folder)} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _is_report(folder: Path) -> bool:
    try:
        raw = json.loads((folder / "report.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(raw, dict) and raw.get("format") == _FORMAT
