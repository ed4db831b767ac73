"""Execution providers: their names, what is said when one is not there, and falling back to another."""

from __future__ import annotations

import importlib.metadata
import sys
import warnings
from pathlib import Path
from types import ModuleType

import onnxruntime
import pytest
from click.testing import CliRunner, Result

from duch.cli import main
from duch.encoder import Encoder
from duch.errors import BundleError, InputError, MissingPackageError, ProviderError
from duch.providers import CPU, PACKAGES, SHORT_NAMES, ProviderFallbackWarning, choose, full_names, missing_library
from duch.retriever import Retriever
from duch.sessions import open_session

TINY = Path(__file__).parents[1] / "tiny_bundle"
CUDA, TENSORRT = SHORT_NAMES["cuda"], SHORT_NAMES["tensorrt"]

# No build for Linux servers has these. Told to use the first, onnxruntime takes the CPU without a word, as it does with
# CUDA where its libraries are missing; the second fails, as TensorRT does then.
LEFT_OUT, FAILING = "MIGraphXExecutionProvider", "WebNNExecutionProvider"
BUILT_WITH = onnxruntime.get_available_providers()
pytestmark = pytest.mark.filterwarnings("ignore:Specified provider")


@pytest.fixture(autouse=True)
def cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of what is absent hold with onnxruntime-gpu too, which names CUDA and TensorRT with no driver there."""
    claim(monkeypatch)


def install(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Let these packages of onnxruntime be the installed ones."""

    def version(name: str) -> str:
        if name in PACKAGES and name not in packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.31.1"

    monkeypatch.setattr(importlib.metadata, "version", version)


def claim(monkeypatch: pytest.MonkeyPatch, *providers: str) -> None:
    """Let onnxruntime say that it was built with these as well. Its sessions are real and cannot start them."""
    available = [*providers, CPU]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)


def test_short_names_are_those_of_onnxruntime() -> None:
    assert set(SHORT_NAMES.values()) <= set(onnxruntime.get_all_providers())
    assert full_names(["cpu", "CUDA", "XnnpackExecutionProvider"]) == (CPU, CUDA, "XnnpackExecutionProvider")
    assert full_names(["cuda", CUDA, "cpu", "cuda"]) == (CUDA, CPU)
    assert full_names("cpu") == (CPU,)


@pytest.mark.parametrize("names", [["gpu"], ["cpu", ""], ["CUDAExecutionProvidr"], ["\x1b[31mExecutionProvider"], []])
def test_unknown_names_are_refused_with_the_known_ones(names: list[str]) -> None:
    with pytest.raises(InputError, match=r"wanted.*cpu, cuda, tensorrt, openvino, coreml"):
        Encoder(TINY, providers=names)


@pytest.mark.parametrize(
    ("requested", "available", "wanted"),
    [
        ([TENSORRT, CUDA], [TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU]),
        ([TENSORRT, CUDA], [CUDA, CPU], [CUDA, CPU]),
        ([CPU, CUDA], [CUDA, CPU], [CPU, CUDA]),
        ([CUDA], [CPU], [CPU]),
    ],
)
def test_a_fallback_keeps_the_order_and_ends_with_the_cpu(
    requested: list[str], available: list[str], wanted: list[str]
) -> None:
    assert choose(requested, available, allow_fallback=True) == wanted


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("cuda", "install onnxruntime-gpu"),
        ("tensorrt", "install onnxruntime-gpu"),
        ("openvino", "install onnxruntime-openvino"),
        ("coreml", "macOS"),
        ("QNNExecutionProvider", "install a build"),
    ],
)
def test_a_provider_that_is_not_there_names_what_is_and_what_to_install(name: str, advice: str) -> None:
    encoder = Encoder(TINY, providers=[name, "cpu"])
    with pytest.raises(ProviderError) as caught:
        encoder.encode_texts(["a river"])
    message = str(caught.value)
    assert f"{SHORT_NAMES.get(name, name)} is not available, this onnxruntime has " in message
    assert CPU in message
    assert advice in message


def test_packages_that_overwrite_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    encoder = Encoder(TINY, providers=["cuda"])
    with pytest.raises(ProviderError, match="onnxruntime and onnxruntime-gpu are installed together"):
        encoder.encode_texts(["a river"])
    install(monkeypatch, "onnxruntime")
    with pytest.raises(ProviderError, match="install onnxruntime-gpu"):
        encoder.encode_texts(["a river"])


def test_an_onnxruntime_without_its_files_is_one_line_that_reinstalls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "onnxruntime-gpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(MissingPackageError, match=r"lost its files.* --force-reinstall onnxruntime-gpu$"):
        Encoder(TINY).encode_texts(["a river"])


def test_a_provider_that_is_left_out_is_an_error_and_not_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    claim(monkeypatch, LEFT_OUT)
    encoder = Encoder(TINY, providers=[LEFT_OUT])
    with pytest.raises(ProviderError, match=f"{LEFT_OUT} did not start: onnxruntime fell back to {CPU}; check"):
        encoder.encode_texts(["a river"])
    assert encoder.providers == {}


def test_a_provider_that_fails_to_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    claim(monkeypatch, FAILING)
    with pytest.raises(ProviderError, match=f"{FAILING} did not start: Unknown Provider Type") as caught:
        Encoder(TINY, providers=[FAILING]).encode_texts(["a river"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("allow_fallback", [False, True])
def test_a_library_that_cannot_be_loaded_is_named(
    allow_fallback: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_migraphx.so").write_bytes(b"no library")
    claim(monkeypatch, LEFT_OUT)
    monkeypatch.setattr(onnxruntime, "__path__", [str(tmp_path)])
    assert missing_library(CPU) == ""
    encoder = Encoder(TINY, providers=[LEFT_OUT], allow_fallback=allow_fallback)
    if allow_fallback:
        with pytest.warns(ProviderFallbackWarning, match=r"libonnxruntime_providers_migraphx\.so"):
            encoder.encode_texts(["a river"])
    else:
        with pytest.raises(ProviderError, match=r"did not start: .*libonnxruntime_providers_migraphx\.so: "):
            encoder.encode_texts(["a river"])


@pytest.mark.parametrize("provider", [LEFT_OUT, FAILING])
@pytest.mark.parametrize("allow_fallback", [False, True])
def test_a_broken_graph_is_not_blamed_on_the_provider(
    provider: str, allow_fallback: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    claim(monkeypatch, provider)
    broken = tmp_path / "text.onnx"
    broken.write_bytes(b"\x00 no graph")
    with pytest.raises(BundleError, match=r"text\.onnx cannot be loaded"):
        open_session(broken, "text", providers=[provider], allow_fallback=allow_fallback, threads=1)


@pytest.mark.parametrize("claimed", [[], [LEFT_OUT], [LEFT_OUT, FAILING]])
@pytest.mark.parametrize("requested", [[FAILING, LEFT_OUT], [LEFT_OUT, FAILING, "cpu"]])
def test_a_fallback_gives_the_same_codes_and_shows_what_ran(
    claimed: list[str], requested: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(monkeypatch, *claimed)
    encoder = Encoder(TINY, providers=requested, allow_fallback=True)
    told = f"{requested[0]}, {requested[1]} did not start; onnxruntime runs on {CPU}"
    with pytest.warns(ProviderFallbackWarning, match=told):
        codes = encoder.encode_texts(["a river"])
    assert (codes == Encoder(TINY).encode_texts(["a river"])).all()
    assert encoder.requested == full_names(requested)
    assert encoder.providers == {"text": (CPU,)}


def test_a_provider_that_starts_is_kept_where_another_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    azure = "AzureExecutionProvider"
    if azure not in BUILT_WITH:
        pytest.skip(f"this onnxruntime has no {azure}")
    claim(monkeypatch, azure, FAILING)
    encoder = Encoder(TINY, providers=[azure, FAILING], allow_fallback=True)
    with pytest.warns(ProviderFallbackWarning, match=f"provider {FAILING} did not start"):
        encoder.encode_texts(["a river"])
    assert encoder.providers == {"text": (azure, CPU)}
    with pytest.raises(ProviderError, match=f"{FAILING} did not start"):
        Encoder(TINY, providers=[azure, FAILING]).encode_texts(["a river"])


def test_nothing_is_said_when_all_that_was_asked_for_is_there() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Encoder(TINY, allow_fallback=True).encode_texts(["a river"])


# --- on the command line ---


def duch(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("providers")
    (folder / "s.jsonl").write_text('{"text": "a wide river"}\n{"text": "two planes"}\n')
    assert duch("index", TINY, folder / "g", "--texts", folder / "s.jsonl").exit_code == 0
    return folder / "g"


def commands(gallery: Path) -> list[tuple[str | Path, ...]]:
    return [
        ("encode", TINY, "--text", "a river"),
        ("index", TINY, gallery.parent / "new", "--texts", gallery.parent / "s.jsonl"),
        ("search", gallery, "a river"),
    ]


@pytest.mark.parametrize("command", [0, 1, 2])
def test_an_absent_provider_is_one_line_and_leaves_nothing(gallery: Path, command: int) -> None:
    result = duch(*commands(gallery)[command], "--provider", "cuda")
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"duch: execution provider {CUDA} is not available")
    assert not (gallery.parent / "new").exists()


@pytest.mark.parametrize("command", [0, 1, 2])
def test_an_allowed_fallback_is_told_once(gallery: Path, command: int) -> None:
    result = duch(*commands(gallery)[command], "--provider", "tensorrt", "--provider", "cuda", "--allow-fallback")
    assert result.exit_code == 0, result.stderr
    assert result.stdout
    assert sum("ExecutionProvider" in line for line in result.stderr.splitlines()) == 1
    assert f"duch: execution providers {TENSORRT}, {CUDA} did not start; onnxruntime runs on {CPU}" in result.stderr


def test_a_fallback_of_both_graphs_is_told_once(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    arguments = ("encode", TINY, "--text", "a river", "--image", tmp_path / "a.png", "--provider", "cuda")
    result = duch(*arguments, "--allow-fallback")
    assert result.exit_code == 0
    assert len(result.stderr.splitlines()) == 1


def test_an_unknown_provider_is_one_line(gallery: Path) -> None:
    result = duch("search", gallery, "a river", "--provider", "gpu")
    assert result.exit_code == 1
    assert "execution provider 'gpu' is unknown; wanted cpu, cuda" in result.stderr


def test_a_retriever_passes_its_providers_on(gallery: Path) -> None:
    with Retriever(gallery, providers=["cuda"]) as retriever, pytest.raises(ProviderError, match=CUDA):
        retriever.search_text("a river")
    with Retriever(gallery, providers=["cuda"], allow_fallback=True) as retriever:
        with pytest.warns(ProviderFallbackWarning):
            assert retriever.search_text("a river", 1)
        assert retriever.encoder.providers == {"text": (CPU,)}
