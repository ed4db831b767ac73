"""How fast this device runs a bundle: cold and warm, each graph alone and whole, and the search.

    result = measure(read_bundle("bundle/"), gallery="gallery/")
    print(duch.bench_table.bench_table(result))

Inputs come from the golden inputs of the bundle, so a device needs nothing else. The result is plain JSON values:

    schema      "duch-bench/1"
    date        when it was measured, UTC
    duch        version of this package
    hardware    members of `CpuFacts`, read right after the work; memory_mb; throttled_meanwhile: how often heat has
                slowed a core down during the measurement
    software    members of `SoftwareFacts`
    bundle      fingerprint, n_bits, gate: {passed, failures}, graphs: {image, text: {precision, recipe}},
                bytes: {file: size}
    provider    requested: [name], obtained: {image, text: [name]}
    threads     {image, text}
    memory      before_mb, after_mb: of this process before it loaded a graph and after the last case; peak_mb
    energy      names of the counters that joules come from; empty where none may be read
    cases       one object for each thing that was timed:
        graph       image, text or search
        stage       cold   a fresh process, from its start to the first line it prints
                    graph  from pixels or token ids to codes
                    whole  from the bytes of a JPEG file or from a sentence to codes; with search, to hits (k = 10)
                    scan   from a code to hits
        batch       inputs at once
        size        image: side of the graph's square in pixels; text: tokens of a sentence; search: tiles
        runs        how often
        p50_ms, p95_ms, p99_ms, mean_ms   of one run, that is of a whole batch
        per_second  inputs per second
        joules      energy of one input, idle power included; null where no counter may be read
        peak_mb     cold: the most memory of that process; else null

MB are 10^6 bytes. What cannot be known here is null.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from .bench_cases import cold_cases, search_cases, typical_query, warm_cases
from .bench_timing import Case, Limit
from .bundle import Bundle
from .display import display_path
from .encoder import Encoder
from .energy import find_meter
from .errors import InputError
from .machine import cpu_facts, peak_rss_mb, rss_mb, software_facts, throttle_count, total_memory_mb
from .manifest import HASHED_FILES
from .progress import Progress
from .retriever import Retriever

SCHEMA = "duch-bench/1"


def measure(
    bundle: Bundle,
    *,
    gallery: str | os.PathLike[str] | None = None,
    providers: Sequence[str] = ("cpu",),
    allow_fallback: bool = False,
    threads: int = 0,
    batches: Sequence[int] = (1, 32),
    seconds: float = 2.0,
    repeats: int | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Time a bundle on this device: JSON values of the schema above.

    Args:
        bundle: from `read_bundle`.
        gallery: folder of a gallery of this bundle, to time the search as well.
        providers: see `Encoder`.
        allow_fallback: see `Encoder`.
        threads: see `Encoder`.
        batches: batch sizes of both graphs.
        seconds: how long each warm case runs.
        repeats: how many runs each case has, instead of `seconds`; cold starts have 5 at most.
        on_progress: called with (cases done, cases in all).

    Raises:
        DuchError: a fresh process fails, because a provider is not there or the bundle cannot be run.
        GalleryError: the gallery cannot be used, or is of another bundle.
        InputError: the gallery holds nothing.
    """
    throttled, before_mb, meter = throttle_count(), rss_mb(), find_meter()
    limit = Limit(seconds=seconds, repeats=repeats)
    with ExitStack() as stack:
        settings: dict[str, Any] = {"providers": providers, "allow_fallback": allow_fallback, "threads": threads}
        retriever = None if gallery is None else stack.enter_context(Retriever(gallery, bundle, **settings))
        if retriever is not None and len(retriever.gallery) == 0:
            raise InputError(f"{display_path(retriever.gallery.folder)} holds no tiles; add some with `duch index`")
        encoder = Encoder(bundle, **settings) if retriever is None else retriever.encoder
        query = typical_query(bundle)
        # Cold starts come first: while this process is small, it can tell the peak memory of others.
        todo = cold_cases(encoder, query, retriever, limit)
        todo += warm_cases(encoder, query, batches, limit, meter)
        if retriever is not None:
            todo += search_cases(retriever, query, limit, meter)
        cases: list[Case] = []
        for case in todo:
            cases.append(case())
            if on_progress:
                on_progress(len(cases), len(todo))
        after_mb, throttled_now = rss_mb(), throttle_count()
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "duch": importlib.metadata.version("duch"),
        "hardware": {
            **asdict(cpu_facts()),
            "memory_mb": total_memory_mb(),
            "throttled_meanwhile": None if throttled is None or throttled_now is None else throttled_now - throttled,
        },
        "software": asdict(software_facts()),
        "bundle": _facts(bundle),
        "provider": {
            "requested": list(encoder.requested),
            "obtained": {graph: list(names) for graph, names in sorted(encoder.providers.items())},
        },
        "threads": {"image": encoder.threads, "text": 1},
        "memory": {"before_mb": before_mb, "after_mb": after_mb, "peak_mb": peak_rss_mb()},
        "energy": list(meter.names) if meter else [],
        "cases": [asdict(case) for case in cases],
    }


def _facts(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    graphs = {"image": manifest.image_graph, "text": manifest.text_graph}
    return {
        "fingerprint": bundle.fingerprint,
        "n_bits": bundle.n_bits,
        "gate": {"passed": manifest.gate.passed, "failures": list(manifest.gate.failures)},
        "graphs": {name: {"precision": info.precision, "recipe": info.recipe} for name, info in graphs.items()},
        "bytes": {file: (bundle.path / file).stat().st_size for file in HASHED_FILES},
    }
