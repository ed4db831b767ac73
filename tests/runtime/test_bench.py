"""`duch bench`: one real measurement in a process of its own, its schema, and how an earlier one judges it."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from duch import bench, cold_start
from duch.bench_cases import typical_query, warm_cases
from duch.bench_compare import Measurement, compare_measurements, measurement, read_measurement
from duch.bench_table import bench_table, case_key
from duch.bench_timing import Limit, case_of
from duch.bundle import Bundle, Gate, read_bundle
from duch.cli import main
from duch.cold_start import cold_starts
from duch.encoder import Encoder
from duch.errors import DuchError, InputError
from duch.gallery_writer import GalleryWriter
from duch.preprocess import Tokenizer

from .resigned import TINY, resigned


def duch(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fails(result: Result, *words: str) -> None:
    """It said one line on stderr with these words, and ended with 1."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in ("duch: ", *words):
        assert word in lines[0]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "images").mkdir()
    for name, colour in (("red", (200, 30, 30)), ("green", (30, 160, 40)), ("blue", (30, 40, 200))):
        Image.new("RGB", (40, 36), colour).save(folder / "images" / f"{name}.png")
    assert duch("index", TINY, folder / "images", folder / "gallery").exit_code == 0
    return folder / "gallery"


@pytest.fixture(scope="module")
def run(gallery: Path) -> subprocess.CompletedProcess[str]:
    """A real run, with a small parent: the peak memory of its cold starts is seen."""
    arguments = ["bench", TINY, gallery, "--batch", "1,3", "--repeats", "2", "--threads", "1", "--json", "-"]
    command = [sys.executable, "-m", "duch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.fixture
def result(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(run.stdout)
    return loaded


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch, result: dict[str, Any]) -> dict[str, Any]:
    """Further command lines get the measurement that was made, or what a test makes of it."""
    monkeypatch.setattr(bench, "measure", lambda *_, **__: result)
    return result


@pytest.fixture
def earlier(tmp_path: Path, result: dict[str, Any]) -> Path:
    (tmp_path / "old.json").write_text(json.dumps(result))
    return tmp_path / "old.json"


def test_a_measurement_follows_its_schema(result: dict[str, Any]) -> None:
    assert list(result) == [
        *("schema", "date", "duch", "hardware", "software", "bundle", "provider"),
        *("threads", "memory", "energy", "cases"),
    ]
    tiny = read_bundle(TINY)
    assert result["schema"] == "duch-bench/1"
    assert result["bundle"] == {
        "fingerprint": tiny.fingerprint,
        "n_bits": 32,
        "gate": {"passed": True, "failures": []},
        "graphs": {name: {"precision": "fp32", "recipe": "fp32"} for name in ("image", "text")},
        "bytes": {file: (TINY / file).stat().st_size for file in tiny.manifest.sha256},
    }
    cpu = ["CPUExecutionProvider"]
    assert result["provider"] == {"requested": cpu, "obtained": {"image": cpu, "text": cpu}}
    assert result["threads"] == {"image": 1, "text": 1}
    assert 0 < result["memory"]["before_mb"] < result["memory"]["after_mb"] <= result["memory"]["peak_mb"]
    assert {"model", "flags", "cores", "governor", "throttled", "memory_mb", "throttled_meanwhile"} <= set(
        result["hardware"]
    )


def test_every_graph_is_timed_cold_and_warm_alone_and_whole(result: dict[str, Any]) -> None:
    cold = [("text", "cold", 1, 16), ("image", "cold", 1, 32), ("search", "cold", 1, 3)]
    warm = [
        (graph, stage, batch, size)
        for batch in (1, 3)
        for graph, size in (("text", 16), ("image", 32))
        for stage in ("graph", "whole")
    ]
    searches = [("search", "whole", 1, 3), ("search", "scan", 1, 3)]
    assert [case_key(case) for case in result["cases"]] == cold + warm + searches
    for case in result["cases"]:
        assert case["runs"] == 2
        assert 0 < case["p50_ms"] <= case["p95_ms"] <= case["p99_ms"]
        assert case["per_second"] == pytest.approx(1e3 * case["batch"] / case["mean_ms"], rel=1e-2)
        assert (case["peak_mb"] is not None) == (case["stage"] == "cold")
        if case["stage"] == "cold":
            assert case["p50_ms"] > 50  # Python alone takes as long to start and import NumPy
            assert 30 < case["peak_mb"] < 300


def test_progress_goes_to_stderr_and_only_json_to_stdout(run: subprocess.CompletedProcess[str]) -> None:
    assert run.stdout.startswith("{")
    assert "measuring" in run.stderr


def test_figures_of_a_case_are_those_of_its_times() -> None:
    case = case_of("text", "graph", 4, 16, [0.001 * n for n in range(1, 101)])
    assert (case.runs, case.p50_ms, case.mean_ms) == (100, 50.5, 50.5)
    assert (case.p95_ms, case.p99_ms) == pytest.approx((95.05, 99.01))
    assert case.per_second == pytest.approx(4 / 0.0505, abs=1e-3)


def test_a_case_runs_as_often_or_as_long_as_it_is_told() -> None:
    calls: list[int] = []
    assert len(Limit(seconds=60, repeats=3).repeat(lambda: calls.append(1))) == len(calls) == 3
    started = time.perf_counter()
    spent = Limit(seconds=0.05).repeat(lambda: time.sleep(0.001))
    assert time.perf_counter() - started >= 0.05
    assert len(spent) >= 5
    assert len(Limit(seconds=0.001).repeat(lambda: time.sleep(0.002))) == 5


@pytest.mark.parametrize(("longest", "tokens"), [(48, 16), (16, 16), (12, 12), (9, 9), (6, 6)])
def test_a_typical_query_has_sixteen_tokens_or_what_the_model_reads(longest: int, tokens: int) -> None:
    tiny = read_bundle(TINY)
    text = replace(tiny.text, max_tokens=longest)
    query = typical_query(Bundle(TINY, replace(tiny.manifest, text=text)))
    assert query.input_ids.shape == query.attention_mask.shape == (1, tokens)
    assert query.attention_mask.all()
    ids, _ = Tokenizer(tiny.tokenizer_json(), text)([query.sentence])
    assert np.array_equal(ids, query.input_ids)


class JouleMeter:
    """A meter that takes a joule between start and stop."""

    names = ("made up",)

    def start(self) -> None:
        pass

    def stop(self) -> float | None:
        return 1.0


def test_energy_is_told_for_one_input() -> None:
    bundle = read_bundle(TINY)
    cases = warm_cases(Encoder(bundle), typical_query(bundle), [4], Limit(1, repeats=5), JouleMeter())
    assert [case().joules for case in cases] == [1 / 20] * 4


def test_a_cold_start_that_fails_passes_its_line_on(tmp_path: Path) -> None:
    with pytest.raises(DuchError, match=r"`duch encode` fails in a fresh process: .*no_bundle does not exist"):
        cold_starts(["encode", str(tmp_path / "no_bundle"), "--text", "a river"], runs=1)


def test_a_cold_start_is_of_this_duch_whatever_the_folder_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "duch").mkdir()
    (tmp_path / "duch" / "__main__.py").write_text("raise SystemExit('another duch')")
    monkeypatch.chdir(tmp_path)
    assert len(cold_starts(["--version"], runs=2).seconds) == 2


@pytest.mark.parametrize(("own_peak", "known"), [(1.0, True), (1e6, False)])
def test_peak_memory_is_told_where_this_process_does_not_hide_it(
    own_peak: float, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold_start, "peak_rss_mb", lambda: own_peak)
    assert (cold_starts(["--version"], runs=1).peak_mb is not None) == known


def test_the_table_shows_what_was_measured(result: dict[str, Any]) -> None:
    result["cases"][0]["joules"] = 0.0123
    result["hardware"]["throttled_meanwhile"] = 3
    result["energy"] = ["intel-rapl:0 package-0"]
    text = bench_table(result)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[0:1] == "|"]
    assert rows[0][-2:] == ["mJ each", "peak MB"]
    cold = next(row for row in rows if row[0] == "text: process start to code, 16 tokens")
    assert cold[-2] == "12.3"
    assert "search: code to hits, 3 tiles" in {row[0] for row in rows}
    assert len(rows) == 2 + len(result["cases"])
    for words in (result["bundle"]["fingerprint"][:12], "slowed the cores down 3 times", "intel-rapl", "fp32"):
        assert words in text


def made_up(**changes: Any) -> Measurement:
    cases = {
        ("text", "graph", 1, 16): (2.0, 500.0),
        ("image", "graph", 1, 224): (9.0, 111.0),
        ("text", "cold", 1, 16): (200.0, 5.0),
    }
    settings = {"CPU": '"a"', "threads": "1"}
    return replace(Measurement("f" * 64, "text CPUExecutionProvider", settings, cases), **changes)


def text_case(p50_ms: float, per_second: float) -> dict[str, Any]:
    return {"cases": {("text", "graph", 1, 16): (p50_ms, per_second)}}


@pytest.mark.parametrize(
    ("new", "threshold", "words"),
    [
        (text_case(2.0, 500), 0, []),
        (text_case(2.39, 418), 20, []),
        (text_case(2.42, 500), 20, ["text: graph alone, 16 tokens, batch 1: median latency 2.42 ms, earlier 2: worse"]),
        (text_case(2.0, 400), 20, ["throughput 400 per second, earlier 500: worse by 25.0 %, allowed are 20 %"]),
        (text_case(4.0, 250), 20, ["median latency", "throughput"]),
        (text_case(4.0, 250), 100, []),
        (text_case(1.0, 1000), 0, []),
        ({"cases": {("text", "cold", 1, 16): (240.0, 1.0)}}, 20, []),
        ({"cases": {("text", "cold", 1, 16): (241.0, 5.0)}}, 20, ["process start to code, 16 tokens, batch 1: median"]),
        ({"obtained": "text CUDAExecutionProvider"}, 20, ["other providers: text CUDAExecutionProvider"]),
        ({"settings": {"CPU": '"b"', "threads": "1"}}, 20, []),
    ],
    ids=["same", "allowed", "slower", "less", "both", "wide", "faster", "cold", "slow start", "provider", "settings"],
)
def test_worse_than_the_threshold_fails(new: dict[str, Any], threshold: float, words: list[str]) -> None:
    failures = compare_measurements(made_up(), made_up(**new), threshold=threshold).failures
    assert len(failures) == len(words)
    for failure, part in zip(failures, words, strict=True):
        assert part in failure


def test_a_comparison_shows_ratios_changes_and_cases_of_one_side() -> None:
    new = made_up(settings={"CPU": '"b"', "threads": "1"}, **text_case(3.0, 250.0))
    table = compare_measurements(made_up(), new, threshold=100).table
    assert '- CPU: "a", now "b"' in table
    assert "threads" not in table
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[0:1] == "|"]
    assert ["text: graph alone, 16 tokens", "1", "2", "3", "1.50", "500", "250", "0.50"] in rows
    assert ["image: graph alone, 224 px", "1", "9", "-", "-", "111", "-", "-"] in rows


def test_measurements_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InputError, match="ffffffffffff, this one has 000000000000"):
        compare_measurements(made_up(), made_up(fingerprint="0" * 64), threshold=20)
    with pytest.raises(InputError, match="no case in common"):
        compare_measurements(made_up(), made_up(cases={("text", "graph", 8, 16): (1.0, 1.0)}), threshold=20)


def test_a_measurement_is_read_as_it_was_written(result: dict[str, Any], earlier: Path) -> None:
    assert read_measurement(earlier) == measurement(result)


def without(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(raw: Any) -> None:
        for key in path[:-1]:
            raw = raw[key]
        del raw[path[-1]]

    return change


def with_value(value: Any, *path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(raw: Any) -> None:
        for key in path[:-1]:
            raw = raw[key]
        raw[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("schema"), "has no schema; wanted duch-bench/1"),
        (with_value("duch-bench/9", "schema"), "has schema duch-bench/9"),
        (without("bundle", "fingerprint"), "has no 'fingerprint'"),
        (without("cases"), "has no 'cases'"),
        (with_value(None, "cases"), "makes no sense"),
        (without("cases", 0, "p50_ms"), "has no 'p50_ms'"),
        (with_value("3", "cases", 0, "p50_ms"), "a figure is '3'"),
        (with_value(float("nan"), "cases", 0, "p50_ms"), "a figure is nan"),
        (with_value(-1, "cases", 0, "per_second"), "a figure is -1"),
        (with_value("video", "cases", 0, "graph"), "a case is video cold"),
        (with_value([1], "cases", 0, "batch"), "makes no sense"),
        (with_value("1", "cases", 0, "batch"), "a case is"),
        (with_value({"text": 3}, "provider", "obtained"), "makes no sense"),
        (with_value([], "hardware"), "makes no sense"),
        (with_value(10**400, "cases", 0, "p50_ms"), "makes no sense"),
    ],
)
def test_a_damaged_or_foreign_measurement_is_one_line(
    earlier: Path, result: dict[str, Any], change: Callable[[dict[str, Any]], None], words: str
) -> None:
    raw = copy.deepcopy(result)
    change(raw)
    earlier.write_text(json.dumps(raw))
    fails(duch("bench", TINY, "--compare", earlier), "old.json", words)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is no JSON"), (b"\xff\xfe", "is no JSON"), (b"[1]", "has no schema"), (b"[" * 100_000, "is no JSON")],
)
def test_what_is_no_measurement_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "old.json").write_bytes(content)
    fails(duch("bench", TINY, "--compare", tmp_path / "old.json"), "old.json", words)
    fails(duch("bench", TINY, "--compare", tmp_path / "gone.json"), "gone.json cannot be read")


@pytest.mark.usefixtures("canned")
def test_a_device_passes_or_fails_by_an_earlier_measurement(earlier: Path, result: dict[str, Any]) -> None:
    passed = duch("bench", TINY, "--compare", earlier)
    assert passed.exit_code == 0, passed.output
    assert "p50 ms before" in passed.stdout
    result["cases"][3]["p50_ms"] *= 3
    failed = duch("bench", TINY, "--compare", earlier, "--threshold", "50")
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].startswith("duch: text: graph alone, 16 tokens, batch 1: median latency")
    assert "worse by 200.0 %, allowed are 50 %" in failed.stderr
    assert duch("bench", TINY, "--compare", earlier, "--threshold", "250").exit_code == 0
    as_json = duch("bench", TINY, "--compare", earlier, "--json", "-")
    assert json.loads(as_json.stdout) == result
    assert "p50 ms before" in as_json.stderr


def test_another_bundle_is_refused_before_anything_is_measured(earlier: Path, result: dict[str, Any]) -> None:
    result["bundle"]["fingerprint"] = "0" * 64
    earlier.write_text(json.dumps(result))
    fails(duch("bench", TINY, "--compare", earlier), "fingerprint 000000000000", "one bundle")


@pytest.mark.usefixtures("canned")
def test_json_goes_into_a_file_whole_or_not_at_all(tmp_path: Path, result: dict[str, Any]) -> None:
    done = duch("bench", TINY, "--json", tmp_path / "new.json")
    assert json.loads((tmp_path / "new.json").read_text()) == result
    assert "| case" in done.stdout
    assert list(tmp_path.iterdir()) == [tmp_path / "new.json"]
    fails(duch("bench", TINY, "--json", tmp_path / "none" / "new.json"), "folder", "none does not exist")
    fails(duch("bench", TINY, "--json", tmp_path), "is a folder; wanted a file")


@pytest.mark.usefixtures("canned")
def test_a_measurement_that_cannot_be_written_is_still_shown() -> None:
    full = duch("bench", TINY, "--json", "/dev/full")
    assert full.exit_code == 1
    assert "| case" in full.stdout
    assert full.stderr.strip() == "measuring\nduch: /dev/full: No space left on device"


def test_a_measurement_that_fails_leaves_the_old_file(earlier: Path, tmp_path: Path) -> None:
    before = earlier.read_bytes()
    stopped = duch("bench", TINY, "--provider", "cuda", "--repeats", "1", "--json", earlier)
    assert stopped.exit_code == 1
    last = stopped.stderr.strip().splitlines()[-1]
    assert "CUDAExecutionProvider" in last
    assert "Traceback" not in stopped.output
    assert earlier.read_bytes() == before
    assert list(tmp_path.iterdir()) == [earlier]


def test_a_provider_obtained_in_place_of_another_is_told(earlier: Path) -> None:
    arguments = ["--provider", "cuda", "--allow-fallback", "--repeats", "1", "--batch", "1", "--threads", "1"]
    done = duch("bench", TINY, *arguments, "--json", "-")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["provider"] == {
        "requested": ["CUDAExecutionProvider"],
        "obtained": {graph: ["CPUExecutionProvider"] for graph in ("image", "text")},
    }
    raw = json.loads(earlier.read_text())
    raw["provider"]["obtained"]["text"] = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    earlier.write_text(json.dumps(raw))
    judged = duch("bench", TINY, *arguments, "--compare", earlier, "--threshold", "100000")
    assert judged.exit_code == 1
    assert "duch: the graphs run on other providers: image CPUExecutionProvider, text CPU" in judged.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seconds", "1", "--repeats", "1"], "wanted one of them"),
        (["--batch", "0"], "--batch is '0'"),
        (["--batch", "1,,2"], "--batch is '1,,2'"),
        (["--batch", "1,1"], "different numbers"),
        (["--batch", "two"], "--batch is 'two'"),
        (["--batch", "5000"], "to 1024"),
        (["--batch", "9" * 5000], "to 1024"),
        (["--expect-fingerprint", "0" * 64], "expected 0000"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(arguments: list[str], words: str) -> None:
    fails(duch("bench", TINY, *arguments), words)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--seconds", "nan"), ("--seconds", "inf"), ("--threshold", "nan"), ("--repeats", "99999999999")],
)
def test_a_number_that_no_measurement_has_is_refused(option: str, value: str) -> None:
    refused = duch("bench", TINY, option, value)
    assert refused.exit_code == 2
    assert f"Invalid value for '{option}'" in refused.stderr


def test_a_golden_caption_without_words_is_one_line(tmp_path: Path) -> None:
    golden = read_bundle(TINY).golden()
    folder = resigned(tmp_path / "bundle", golden=replace(golden, captions=(" ", *golden.captions[1:])))
    result = duch("bench", folder)
    assert result.exit_code == 1
    assert "golden.npz cannot be used: a caption is empty" in result.stderr.strip().splitlines()[-1]


@pytest.mark.usefixtures("canned")
def test_what_a_bundle_calls_its_recipe_reaches_the_terminal_as_text(result: dict[str, Any]) -> None:
    result["bundle"]["graphs"]["text"]["recipe"] = "\x1b[31mred"
    result["hardware"]["model"] = "\x1b]0;title\x07"
    printed = duch("bench", TINY).stdout
    assert r"text fp32 (\x1b[31mred)" in printed
    assert printed.replace("\n", "").isprintable()


@pytest.mark.usefixtures("canned")
def test_a_bundle_that_failed_its_gate_is_measured_with_a_warning(tmp_path: Path) -> None:
    gate = Gate(passed=False, failures=("bits of the image graph: 0.93, wanted 0.98",))
    done = duch("bench", resigned(tmp_path / "bundle", gate=gate))
    assert done.exit_code == 0
    assert "failed the tests of its export: bits of the image graph: 0.93" in done.stderr


def test_an_empty_gallery_is_one_line(tmp_path: Path) -> None:
    with GalleryWriter(tmp_path / "empty", fingerprint=read_bundle(TINY).fingerprint, n_bits=32, create=True):
        pass
    assert "empty holds no tiles" in duch("bench", TINY, tmp_path / "empty").stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["a terminal's", "to duch alone"])
def test_an_interrupt_is_quiet_and_leaves_nothing(tmp_path: Path, send: Callable[[int, int], None]) -> None:
    command = [sys.executable, "-m", "duch", "bench", str(TINY), "--seconds", "60", "--json", "new.json"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(1.5)
    send(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert out == ""
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):  # the process of a cold start is gone too
        os.killpg(process.pid, 0)
