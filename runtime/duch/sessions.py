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

_INPUTS: dict[GraphName, tuple[str, ...]] = {"image": ("pixels",), "text": ("input_ids", "attention_mask")}
_OUTPUTS = ("codes", "relaxed")

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
    options.log_severity_level = 3  # errors; its warnings about graphs are not the user's business
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads burn a core between two queries: 127 % -> 49 % of CPU at one query every 20 ms.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def start(chosen: list[str]) -> Any:
        if chosen != [CPU]:  # pages about a provider that does not start, of which we tell one line
            onnxruntime.set_default_logger_severity(_FATAL)
        try:
            # Its own fallback would print to stdout, and change providers in the middle of a run.
            return onnxruntime.InferenceSession(str(file), options, providers=chosen, enable_fallback=0)
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
    inputs, outputs = ([node.name for node in nodes] for nodes in (session.get_inputs(), session.get_outputs()))
    if sorted(inputs) != sorted(_INPUTS[graph]) or not set(_OUTPUTS) <= set(outputs):
        raise BundleError(
            f"{display_path(file)} has inputs {', '.join(inputs)} and outputs {', '.join(outputs)}; "
            f"wanted {', '.join(_INPUTS[graph])} and {', '.join(_OUTPUTS)}"
        )
    return session


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
