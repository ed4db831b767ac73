"""One onnxruntime session for one graph of a bundle: its threads, its providers, and what it must look like."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from .display import display_path
from .errors import BundleError, MissingPackageError, ProviderError, needs_extra, one_line
from .providers import CPU, ProviderFallbackWarning, choose, emptied, fell_back, not_started, several_installed

GraphName = Literal["image", "text"]

_INPUTS: dict[GraphName, dict[str, str]] = {
    "image": {"pixels": "tensor(uint8)"},
    "text": {"input_ids": "tensor(int64)", "attention_mask": "tensor(int64)"},
}
_OUTPUTS = {"codes": "tensor(uint8)", "relaxed": "tensor(float)"}

_WARNING, _FATAL = 2, 4  # levels of onnxruntime's log; the first is its default


def open_session(file: Path, graph: GraphName, *, providers: Sequence[str], allow_fallback: bool, threads: int) -> Any:
    """Load a graph into an `onnxruntime.InferenceSession`.

    Args:
        file: the graph.
        graph: which one it is.
        providers: full names, the preferred one first.
        allow_fallback: where a provider is not there or does not start, go on with the next and at last the CPU, and
            warn with `ProviderFallbackWarning`.
        threads: threads of one run.

    Raises:
        MissingPackageError: onnxruntime is not installed, or has lost its files.
        ProviderError: a provider is not there or did not start.
        BundleError: the graph cannot be loaded, or has other inputs or outputs.
    """
    with needs_extra("cpu", "coding images and sentences"):
        import onnxruntime
    if not hasattr(onnxruntime, "InferenceSession"):
        raise MissingPackageError(emptied())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL  # what it logs as an error it raises too, and we tell it once
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads burn a core between two queries: 127 % -> 49 % of CPU at one query every 20 ms.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    model = str(file) if str(file).isprintable() else file.read_bytes()  # it opens paths of UTF-8 alone

    def start(chosen: list[str]) -> Any:
        if chosen != [CPU]:  # pages about a provider that does not start, of which we tell one line
            onnxruntime.set_default_logger_severity(_FATAL)
        try:
            # Its own fallback would print to stdout, and change providers in the middle of a run.
            return onnxruntime.InferenceSession(model, options, providers=chosen, enable_fallback=0)
        finally:
            onnxruntime.set_default_logger_severity(_WARNING)

    chosen = choose(providers, onnxruntime.get_available_providers(), allow_fallback=allow_fallback)
    try:
        session = _start_those_that_can(start, chosen, allow_fallback=allow_fallback)
    except ProviderError:
        raise
    except Exception as error:  # onnxruntime's errors share no base class but Exception
        advice = several_installed()
        raise BundleError(
            f"{display_path(file)} cannot be loaded: {one_line(error)[:300]}{advice and '; ' + advice}"
        ) from error
    # A provider whose own libraries are missing is left out without an error.
    obtained = session.get_providers()
    if lost := [name for name in providers if name not in obtained]:
        if not allow_fallback:
            raise ProviderError(not_started(lost[0], f"onnxruntime fell back to {', '.join(obtained)}"))
        warnings.warn(fell_back(lost, obtained), ProviderFallbackWarning, stacklevel=2)
    inputs, outputs = (
        {node.name: node.type for node in nodes} for nodes in (session.get_inputs(), session.get_outputs())
    )
    if inputs != _INPUTS[graph] or not _OUTPUTS.items() <= outputs.items():
        raise BundleError(
            f"{display_path(file)} has inputs {_typed(inputs)} and outputs {_typed(outputs)}; "
            f"wanted {_typed(_INPUTS[graph])} and {_typed(_OUTPUTS)}"
        )
    return session


def _typed(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in values.items())


def _start_those_that_can(start: Callable[[list[str]], Any], chosen: list[str], *, allow_fallback: bool) -> Any:
    """A session on the chosen providers; with `allow_fallback`, on those of them that start."""
    try:
        return start(chosen)
    except Exception as error:
        if chosen == [CPU]:
            raise
        together = error
    on_cpu = start([CPU])  # raises where the graph is at fault and no provider
    failing: dict[str, Exception] = {}
    for name in chosen:
        try:
            start([name])
        except Exception as error:
            failing[name] = error
    if failing and allow_fallback:
        left = [name for name in chosen if name not in failing]
        return on_cpu if left == [CPU] else start(left)
    name, reason = next(iter(failing.items()), (", ".join(chosen), together))
    raise ProviderError(not_started(name, one_line(reason)[:300])) from reason
