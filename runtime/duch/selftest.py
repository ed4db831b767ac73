"""Is this device fit to run this bundle? The golden inputs of the bundle, through all that codes them here.

    result = selftest("bundle/")
    print(result.table())
    sys.exit(0 if result.fit else 1)

Codes are judged, speed is only told. BUNDLE.md, "Testing a device", says the same for hosts in other languages.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .bundle import read_bundle
from .display import display_path, printable
from .encoder import Encoder
from .errors import needs_extra
from .golden_checks import Check, GraphRun, check_pixels, check_tokens, run_graph
from .machine import CpuFacts, SoftwareFacts, cpu_facts, peak_rss_mb, software_facts
from .manifest import HASHED_FILES, Gate
from .providers import several_installed
from .sessions import GraphName
from .table import aligned

GRAPHS: tuple[GraphName, ...] = ("image", "text")

# x86 without them adds pairs of int8 products in 16 bits, which saturates where weights have all 8 bits.
_INT8_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "asimddp"}


@dataclass(frozen=True)
class SelfTest:
    """Whether a device is fit for a bundle, and what was seen on the way.

    Attributes:
        bundle: its folder.
        fingerprint: of the bundle.
        n_bits: length of its codes.
        requested: execution providers that were asked for.
        checks: all that was judged.
        graphs: those that loaded and ran.
        cpu: the processor.
        software: versions.
        peak_mb: the most memory that this process ever held, in MB of 10^6 bytes.
    """

    bundle: str
    fingerprint: str
    n_bits: int
    requested: tuple[str, ...]
    checks: tuple[Check, ...]
    graphs: dict[GraphName, GraphRun]
    cpu: CpuFacts
    software: SoftwareFacts
    peak_mb: float

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that speak against this device."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def fit(self) -> bool:
        """Whether every check passed."""
        return not self.failed

    def to_json(self) -> dict[str, Any]:
        """Plain values, with `fit` first."""
        return {"fit": self.fit, **asdict(self)}

    def table(self) -> str:
        """All of it, for eyes; the verdict comes last."""
        checks = [(check.name, "ok" if check.passed else "FAILED", check.wanted, check.found) for check in self.checks]
        verdict = f"not fit: {len(self.failed)} of {len(self.checks)} checks failed" if self.failed else "fit"
        blocks = [
            f"{self.bundle}: {self.n_bits} bits, fingerprint {self.fingerprint}",
            aligned([("check", "result", "wanted", "found"), *checks]),
            aligned([("graph", "precision", "recipe", "runs on", "threads", "cold ms", "warm ms"), *self._runs()])
            + "\ncold: load the graph and code a PNG file or a sentence; warm: code it once more, median",
            aligned([*_machine(self.cpu, self.software), ("memory", f"at most {self.peak_mb:.0f} MB")]),
            f"this device is {verdict}",
        ]
        if not self.graphs:
            del blocks[2]
        return "\n\n".join(blocks)

    def _runs(self) -> list[tuple[str, ...]]:
        return [
            (
                name,
                run.precision,
                printable(run.recipe),
                run.providers[0],
                f"{run.threads}",
                f"{run.cold_ms:.2f}",
                f"{run.warm_ms:.2f}",
            )
            for name, run in self.graphs.items()
        ]


def selftest(
    folder: str | os.PathLike[str],
    *,
    providers: Sequence[str] = ("cpu",),
    allow_fallback: bool = False,
    threads: int = 0,
    expect_fingerprint: str | None = None,
) -> SelfTest:
    """Test a bundle on this device.

    Args:
        folder: the bundle.
        providers: see `Encoder`.
        allow_fallback: see `Encoder`.
        threads: see `Encoder`.
        expect_fingerprint: refuse any bundle but this one.

    Raises:
        BundleError: the bundle is damaged, is none, or is another one than expected.
        InputError: an unknown provider, or a negative number of threads.
        MissingPackageError: onnxruntime is not installed.
    """
    bundle = read_bundle(folder, expect_fingerprint=expect_fingerprint)
    golden = bundle.golden()
    encoder = Encoder(bundle, providers=providers, allow_fallback=allow_fallback, threads=threads)
    with needs_extra("cpu", "testing this device"):
        import onnxruntime  # noqa: F401  before the clock runs: both graphs need it
    whole = Check("files", True, f"manifest and {len(HASHED_FILES)} files match their sha256", "all of them")
    checks = [whole, _export(bundle.manifest.gate), _one_onnxruntime()]
    checks += [*check_pixels(bundle, golden), check_tokens(bundle, golden)]
    graphs: dict[GraphName, GraphRun] = {}
    for graph in GRAPHS:
        more, run = run_graph(encoder, graph, golden)
        checks += more
        if run is not None:
            graphs[graph] = run
    return SelfTest(
        bundle=display_path(bundle.path),
        fingerprint=bundle.fingerprint,
        n_bits=bundle.n_bits,
        requested=encoder.requested,
        checks=tuple(checks),
        graphs=graphs,
        cpu=cpu_facts(),
        software=software_facts(),
        peak_mb=peak_rss_mb(),
    )


def _export(gate: Gate) -> Check:
    found = "passed" if gate.passed else printable(f"failed: {'; '.join(gate.failures) or 'no reason given'}")
    return Check("export", gate.passed, found, "a bundle that passed the tests of its export")


def _one_onnxruntime() -> Check:
    several = several_installed()
    return Check("onnxruntime", not several, several or "one package", "one package of it")


def _machine(cpu: CpuFacts, software: SoftwareFacts) -> list[tuple[str, str]]:
    dot_products = "with" if _INT8_DOT_PRODUCTS.intersection(cpu.flags) else "without"
    cores = f"{cpu.cores} cores" if cpu.cores != 1 else "1 core"
    packages = [f"{package} {version}" for package, version in software.onnxruntime.items()]
    versions = [f"Python {software.python}", f"numpy {software.numpy}", *packages, software.kernel]
    rows = [
        ("processor", printable(f"{cpu.model or 'unknown'}, {cpu.architecture}, {cores}")),
        (
            "flags",
            f"{' '.join(cpu.flags)}: {dot_products} int8 dot products (VNNI or the like)" if cpu.flags else "not known",
        ),
        ("software", ", ".join(versions)),
        ("search kernels", software.search),
    ]
    clock = [f"governor {cpu.governor}" if cpu.governor else "", f"{cpu.mhz:.0f} MHz" if cpu.mhz else ""]
    if cpu.throttled:
        clock.append(f"slowed down by heat {cpu.throttled:,} times since the start")
    return [*rows, ("clock", ", ".join(filter(None, clock)) or "not known")]
