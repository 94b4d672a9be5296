"""The figures of `benchmark`: PyTorch, ONNX and IR of each graph, at f32 and at the default precision."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.benchmark.flops import gflops
from pspnet_convert.runtimes.input_form import ImageShape
from pspnet_convert.runtimes.timing import Subject, contestants, run_round

# plain: what torch's exporter writes by itself; unfolded: with exact pools (--no-fold-pyramid); folded: the default.
GRAPHS = ("plain", "unfolded", "folded")
_SIDES = (1024, 2048, 3072)  # of the square matrices that measure the machine's peak


@dataclass(frozen=True)
class Timing:
    """The figures of one subject.

    `precision`: what the runtime really computes in. `processor`: the instruction set to which the processor was
    capped; None for this one as it is. `ratio`: how many times as fast as the plain FP32 IR at the same `at` (f32 for
    PyTorch and ONNX) and `processor`, median of the rounds. `file_mb`: the file with the weights, 10^6 bytes.
    `share`: gflops_per_second as a part, 0..1, of the machine's measured peak at that precision; None for INT8.
    """

    runtime: str
    graph: str
    weights: str
    at: str
    precision: str
    processor: str | None
    median_ms: float
    images_per_second: float
    ratio: float
    file_mb: float
    peak_memory_mb: float
    gflops: float
    gflops_per_second: float
    share: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def subjects(
    checkpoint: Path, models: Mapping[str, tuple[Path, Mapping[str, Path]]], processors: Sequence[str] = ()
) -> list[Subject]:
    """All subjects to time. `models`: by graph, the ONNX and the IRs by precision.

    The IRs are timed on this processor and on each of `processors`.
    """
    found = [Subject("PyTorch", "plain", "FP32", "f32", checkpoint)]
    for graph, (onnx, irs) in models.items():
        found.append(Subject("ONNX", graph, "FP32", "f32", onnx))
        for processor in (None, *processors):
            for at in ("f32", "default"):
                found.extend(
                    Subject("IR", graph, weights, at, path, processor=processor) for weights, path in irs.items()
                )
    return found


def time_in_turns(
    card: ModelCard,
    shape: ImageShape,
    chosen: Sequence[Subject],
    graphs: Mapping[str, Path],
    rounds: int,
    note: Callable[[], None] = lambda: None,
) -> list[Timing]:
    """Time each of `chosen` in `rounds` rounds, after one to warm up.

    `graphs`: by name, the ONNX files in which operations are counted. `note` is called after each turn. ArtifactError
    if a subject does not run.
    """
    operations = {name: gflops(path) for name, path in graphs.items()}
    with contestants(card, shape, chosen) as started:
        # Not for INT8: torch has no public function that multiplies INT8 matrices.
        precisions = {c.precision for c, subject in zip(started, chosen) if subject.weights != "INT8"}
        # In the process that has torch loaded anyway: in another, torch would count as the subject's memory.
        in_torch = next(c for c, subject in zip(started, chosen) if subject.runtime == "PyTorch")
        peaks = dict.fromkeys(precisions, 0.0)
        turns = []
        for _ in range(rounds + 1):
            turns.append(run_round(started, note))
            for precision in precisions:
                peaks[precision] = max(peaks[precision], in_torch.call(matrix_product_peak, precision))
        seconds = np.array(turns[1:])  # [rounds, subjects]
        rows = []
        for number, (subject, contestant) in enumerate(zip(chosen, started)):
            median_seconds = median(seconds[:, number])
            baseline = _baseline(chosen, subject)
            speed = operations[subject.graph] / median_seconds
            rows.append(
                Timing(
                    subject.runtime,
                    subject.graph,
                    subject.weights,
                    subject.at,
                    contestant.precision,
                    subject.processor,
                    median_ms=1000 * median_seconds,
                    images_per_second=1 / median_seconds,
                    ratio=float(np.median(seconds[:, baseline] / seconds[:, number])),
                    file_mb=_weights_file(subject.path).stat().st_size / 1e6,
                    peak_memory_mb=contestant.peak_memory() / 1e6,
                    gflops=operations[subject.graph],
                    gflops_per_second=speed,
                    share=speed / peaks[contestant.precision] if contestant.precision in peaks else None,
                )
            )
        return rows


def _weights_file(path: Path) -> Path:
    return path.with_suffix(".bin") if path.suffix == ".xml" else path


def _baseline(chosen: Sequence[Subject], subject: Subject) -> int:
    """The number of the plain FP32 IR that runs at the same `at`, on the same processor, as `subject`."""
    return next(
        number
        for number, other in enumerate(chosen)
        if (other.runtime, other.graph, other.weights) == ("IR", "plain", "FP32")
        and (other.at, other.processor) == (subject.at, subject.processor)
    )


def matrix_product_peak(_: object, precision: str) -> float:
    """The machine's peak in GFLOP/s: the fastest of some square matrix products in torch or NumPy."""
    import torch

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[precision]
    best = 0.0
    for side in _SIDES:
        a, b = torch.randn(2, side, side).to(dtype)
        pairs: list[tuple[Any, Any]] = [(a, b)] * 3
        if dtype is torch.float32:
            pairs += [(a.numpy(), b.numpy())] * 3
        for left, right in pairs:
            start = time.perf_counter()
            _ = left @ right
            best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
    return best
