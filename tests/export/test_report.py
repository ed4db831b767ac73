"""The folder of a report: what it tells, its pictures, and that it never replaces anything else."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duch.errors import BundleError
from duch_export.config import ExportConfig, Thresholds
from duch_export.gate import checks
from duch_export.parity import Agreement, ParityReport
from duch_export.report import Findings, check_report_folder, folder, report_folder_of, summary, write_report
from duch_export.report.markdown import markdown
from duch_export.report.plots import PICTURES


def found(report: ParityReport, **changes: object) -> Findings:
    config = ExportConfig(recipe="fp32")
    values = Findings("bundle", "ab" * 32, 32, "made up", config, report, checks(report, config.gate), forced=False)
    return dataclasses.replace(values, **changes)  # type: ignore[arg-type]


@pytest.fixture
def findings(fp32_report: ParityReport) -> Findings:
    return found(fp32_report)


@pytest.fixture
def failing(fp32_report: ParityReport) -> Findings:
    text = dataclasses.replace(fp32_report.text, bundle_to_fp32=Agreement(0.5, 0.0))
    return found(dataclasses.replace(fp32_report, text=text))


def test_a_report_is_text_numbers_and_pictures(findings: Findings, tmp_path: Path) -> None:
    write_report(tmp_path / "report", findings)
    assert os.listdir(tmp_path) == ["report"]
    assert sorted(os.listdir(tmp_path / "report")) == sorted(["report.md", "report.json", *PICTURES])
    text = (tmp_path / "report" / "report.md").read_text()
    for name in PICTURES:
        assert f"]({name})" in text
        with Image.open(tmp_path / "report" / name) as picture:
            pixels = np.asarray(picture.convert("L"))
        assert pixels.shape[0] > 200
        assert pixels.shape[1] > 400
        assert pixels.std() > 5, "an empty picture"
    raw = json.loads((tmp_path / "report" / "report.json").read_text())
    assert raw["passed"] is True
    assert raw["parity"] == json.loads(json.dumps(findings.parity.to_json()))
    assert len(raw["checks"]) == len(findings.checks)


def test_the_verdict_comes_first(findings: Findings, failing: Findings) -> None:
    assert markdown(findings).split("\n\n")[1].startswith("**Passed** all")
    verdict = markdown(failing).split("\n\n")[1:3]
    assert verdict[0].startswith("**Failed** 1 of")
    assert "No bundle was written" in verdict[0]
    assert verdict[1] == "- text: bits of the fp32 graph that equal ONNX fp32's: found 0.50000, wanted at least 0.999"
    assert "written by force" in markdown(dataclasses.replace(failing, forced=True))


def test_tables_are_whole(findings: Findings) -> None:
    lines = markdown(findings).splitlines()
    tables = [i for i, line in enumerate(lines) if line.startswith("| --- ")]
    assert len(tables) >= 7
    for start in tables:
        columns = lines[start].count("|")
        end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
        assert end > start + 1, "a table without rows"
        assert {line.count("|") for line in lines[start - 1 : end]} == {columns}


def test_speed_here_is_said_in_words(fp32_report: ParityReport) -> None:
    changes = {"precision": "int8", "recipe": "some", "ms_fp32": 6.0, "ms_bundle": 4.0}
    batch = {"batch_ms_fp32": 10.0, "batch_ms_bundle": 20.0}
    image = dataclasses.replace(fp32_report.image, **changes, **batch)
    text = markdown(found(dataclasses.replace(fp32_report, image=image)))
    assert "image: faster than ONNX fp32 here: **yes**, 1.50 times alone; **no**, 0.50 times in batches of 32." in text
    assert "text: the graph is ONNX fp32 itself." in text


def test_names_cannot_break_the_text(findings: Findings) -> None:
    text = markdown(dataclasses.replace(findings, name="a|b\n# c", dataset="<script>"))
    assert text.splitlines()[0] == "# Export of a\\|b\\n# c"
    assert "<script>" not in text


def test_the_printed_table_is_short(fp32_report: ParityReport) -> None:
    image = dataclasses.replace(
        fp32_report.image, precision="int8", recipe="some", bundle_to_fp32=Agreement(0.9876, 0.5)
    )
    lines = summary(dataclasses.replace(fp32_report, image=image)).splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("graph  engine")
    assert "0.9876" in next(line for line in lines if "onnx int8" in line)
    assert max(map(len, lines)) <= 140


@pytest.mark.parametrize(
    ("bundle", "asked", "wanted"),
    [("b", None, "b-report"), ("x/b/", None, "x/b-report"), ("b", Path("r"), "r"), ("b.v1", None, "b.v1-report")],
)
def test_a_report_lies_beside_its_bundle(bundle: str, asked: Path | None, wanted: str) -> None:
    assert report_folder_of(bundle, asked) == Path(wanted)


@pytest.mark.parametrize(("bundle", "wanted"), [(".", "x/y-report"), ("../y", "x/y-report"), ("..", "x-report")])
def test_a_bundle_in_the_working_folder_has_its_report_beside(
    bundle: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "x" / "y")
    assert report_folder_of(bundle, None).resolve() == tmp_path / wanted


def test_an_older_report_is_replaced_and_nothing_else(findings: Findings, failing: Findings, tmp_path: Path) -> None:
    report, bundle = tmp_path / "report", tmp_path / "bundle"
    check_report_folder(report, bundle)
    write_report(report, findings)
    check_report_folder(report, bundle)
    write_report(report, failing)
    assert "**Failed**" in (report / "report.md").read_text()
    (report / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"holds notes.txt.*--report"):
        check_report_folder(report, bundle)
    (tmp_path / "other").mkdir()
    check_report_folder(tmp_path / "other", bundle)
    (tmp_path / "other" / "report.json").write_text("{}")
    with pytest.raises(BundleError, match=r"holds report.json"):
        check_report_folder(tmp_path / "other", bundle)
    with pytest.raises(BundleError, match="is no folder"):
        check_report_folder(tmp_path / "other" / "report.json", bundle)


@pytest.mark.parametrize("place", ["bundle", "bundle/report", "bundle/a/b"])
def test_a_report_does_not_lie_in_the_bundle(tmp_path: Path, place: str) -> None:
    with pytest.raises(BundleError, match="would lie in the bundle"):
        check_report_folder(tmp_path / place, tmp_path / "bundle")


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    findings: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path / "report", findings)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "draw", full)
    with pytest.raises(BundleError, match="cannot be written: No space left on device"):
        write_report(tmp_path / "report", findings)
    assert os.listdir(tmp_path) == ["report"]
    assert "**Passed**" in (tmp_path / "report" / "report.md").read_text()


def test_an_interrupt_leaves_the_old_report(
    findings: Findings, failing: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path / "report", findings)
    rename, calls = os.rename, []

    def second_is_interrupted(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", second_is_interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path / "report", failing)
    assert os.listdir(tmp_path) == ["report"]
    assert "**Passed**" in (tmp_path / "report" / "report.md").read_text()


def test_a_report_goes_through_a_link(findings: Findings, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):
        write_report(tmp_path / "link", findings)
    assert "**Passed**" in (tmp_path / "real" / "report.md").read_text()
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


def test_a_report_below_a_file_is_refused_early(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(BundleError, match=r"thesis\.txt: Not a directory; .*--report"):
        check_report_folder(tmp_path / "thesis.txt" / "report", tmp_path / "bundle")


def test_thresholds_of_the_report_are_those_asked_for(fp32_report: ParityReport, tmp_path: Path) -> None:
    config = ExportConfig(recipe="fp32", gate=Thresholds(max_mb=50))
    write_report(tmp_path / "r", found(fp32_report, config=config, checks=checks(fp32_report, config.gate)))
    assert "at most 50 MB" in (tmp_path / "r" / "report.md").read_text()
    assert json.loads((tmp_path / "r" / "report.json").read_text())["config"]["gate"]["max_mb"] == 50
