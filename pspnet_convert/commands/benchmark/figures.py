"""The figures of `benchmark`: PyTorch, ONNX and IR of each graph, at f32 and at the default precision."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.benchmark.flops import gflops
from pspnet_convert.commands.benchmark.limits import Limit, limits, multiplied_in, products
from pspnet_convert.commands.benchmark.options import WINOGRAD
from pspnet_convert.commands.benchmark.others import share_of_others, usage
from pspnet_convert.commands.benchmark.ratios import Ratio, Rounds, is_settled, ratio
from pspnet_convert.device import CPU
from pspnet_convert.runtimes.input_form import ImageShape
from pspnet_convert.runtimes.timing import Contestant, Subject, contestants, run_round


@dataclass(frozen=True)
class Timing:
    """The figures of one subject.

    `precision`: what the runtime really computes in. `device`: of an IR; None for the other runtimes. `processor`: the
    instruction set to which the processor was capped; None for this one as it is. `median_ms`: of a batch, over
    `rounds`. `ratio`: how many times as fast as the plain FP32 IR at the same `at` (f32 for PyTorch and ONNX) and
    `processor`; None where that was not timed. `file_mb`: the file with the weights, 10^6 bytes. `gflops`: of a batch;
    for Winograd those of the convolutions in its place. `share`: gflops_per_second as a part of the processor's limit
    at that precision; None where that has no limit, on another device than the CPU, and for Winograd.
    """

    runtime: str
    graph: str
    weights: str
    at: str
    precision: str
    device: str | None
    processor: str | None
    rounds: int
    median_ms: float
    images_per_second: float
    ratio: Ratio | None
    file_mb: float
    peak_memory_mb: float
    gflops: float
    gflops_per_second: float
    share: float | None

    @property
    def name(self) -> str:
        """IR folded FP32 at f32 on avx2, say."""
        return f"{self.runtime} {self.graph} {self.weights} at {self.at}" + (
            f" on {self.processor}" if self.processor else ""
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Setting:
    """What all subjects of a benchmark have in common. `operations`: 10^9 in a batch, by graph."""

    card: ModelCard
    shape: ImageShape
    rounds: Rounds
    operations: Mapping[str, float]
    note: Callable[[], None] = lambda: None  # called after each turn


@dataclass(frozen=True)
class Timings:
    """The figures of all subjects, the limits that they are compared with, and the most rounds that a group took.

    `others`: the part, 0..1, of the processors' time that other programs took; None where the system does not say.
    """

    rows: Sequence[Timing]
    limits: Sequence[Limit]
    rounds: int
    others: float | None


def count_operations(graphs: Mapping[str, Path]) -> dict[str, float]:
    """The operations of each ONNX file of `graphs`, in 10^9."""
    return {name: gflops(path) for name, path in graphs.items()}


def subjects(
    checkpoint: Path,
    models: Mapping[str, tuple[Path, Mapping[str, Path]]],
    processors: Sequence[str] = (),
    device: str = CPU,
) -> list[list[Subject]]:
    """All subjects to time, in groups that take turns. `models`: by graph, the ONNX and the IRs by precision.

    The first group is timed on this processor, its IRs on `device`; then comes one with the IRs alone for each of
    `processors`. PyTorch runs the network as it is: it goes with the plain graph.
    """
    first = [Subject("PyTorch", "plain", "FP32", "f32", checkpoint)] if "plain" in models else []
    for graph, (onnx, irs) in models.items():
        if graph != WINOGRAD:  # which is a rewrite of the IR
            first.append(Subject("ONNX", graph, "FP32", "f32", onnx))
        first.extend(replace(one, device=device) for one in _of_irs(graph, irs, None))
    capped = [
        [one for graph, (_, irs) in models.items() for one in _of_irs(graph, irs, processor)]
        for processor in processors
    ]
    return [first, *capped]


def _of_irs(graph: str, irs: Mapping[str, Path], processor: str | None) -> list[Subject]:
    return [
        Subject("IR", graph, weights, at, path, processor=processor)
        for at in (("f32",) if graph == WINOGRAD else ("f32", "default"))
        for weights, path in irs.items()
    ]


def time_in_turns(setting: Setting, groups: Sequence[Sequence[Subject]]) -> Timings:
    """Time each subject, a group after the other: only the models of one group are in memory at once.

    ArtifactError if a subject does not run.
    """
    done = [_time_group(setting, group) for group in groups]
    return Timings(
        [row for one in done for row in one.rows],
        [limit for one in done for limit in one.limits],
        max(one.rounds for one in done),
        max((one.others for one in done if one.others is not None), default=None),
    )


def _time_group(setting: Setting, chosen: Sequence[Subject]) -> Timings:
    """All of `chosen` run on the same processor, in turns with the products that are its limit; an IR on another device
    has no limit."""
    processor = chosen[0].processor
    with contestants(setting.card, setting.shape, chosen) as started:
        precisions = [one.precision for one, subject in zip(started, chosen) if subject.device == CPU]
        with products(precisions, processor) as limit:
            before = usage([*started, limit])
            seconds = _rounds(setting, chosen, [*started, limit])
            others = share_of_others(before, usage([*started, limit]), os.cpu_count() or 1)
            found = limits(limit, processor)
        ratios = _ratios(chosen, seconds)
        rows = [
            _timing(setting, subject, one, seconds[:, number], ratios[number], found.get(multiplied_in(one.precision)))
            for number, (subject, one) in enumerate(zip(chosen, started))
        ]
    return Timings(rows, list(found.values()), len(seconds), others)


def _rounds(setting: Setting, chosen: Sequence[Subject], started: Sequence[Contestant]) -> NDArray[np.float64]:
    """Seconds of each, [rounds, started], after a round to warm up."""
    run_round(started, setting.note)
    turns: list[list[float]] = []
    while len(turns) < setting.rounds.most:
        turns.append(run_round(started, setting.note))
        known = [one for one in _ratios(chosen, np.array(turns)) if one is not None]
        if len(turns) >= setting.rounds.least and is_settled(known):
            break
    return np.array(turns)


def _ratios(chosen: Sequence[Subject], seconds: NDArray[np.float64]) -> list[Ratio | None]:
    baselines = [_baseline(chosen, subject) for subject in chosen]
    return [
        None if baseline is None else ratio(seconds[:, baseline], seconds[:, number])
        for number, baseline in enumerate(baselines)
    ]


def _timing(
    setting: Setting,
    subject: Subject,
    contestant: Contestant,
    seconds: NDArray[np.float64],
    ratio: Ratio | None,
    limit: Limit | None,
) -> Timing:
    middle = float(median(seconds))
    operations = setting.operations[subject.graph]
    has_limit = subject.graph != WINOGRAD and subject.device == CPU
    return Timing(
        subject.runtime,
        subject.graph,
        subject.weights,
        subject.at,
        contestant.precision,
        subject.device if subject.runtime == "IR" else None,
        subject.processor,
        len(seconds),
        median_ms=1000 * middle,
        images_per_second=setting.shape[0] / middle,
        ratio=ratio,
        file_mb=_weights_file(subject.path).stat().st_size / 1e6,
        peak_memory_mb=contestant.peak_memory() / 1e6,
        gflops=operations,
        gflops_per_second=operations / middle,
        share=operations / middle / limit.gflops_per_second if limit and has_limit else None,
    )


def _weights_file(path: Path) -> Path:
    return path.with_suffix(".bin") if path.suffix == ".xml" else path


def _baseline(chosen: Sequence[Subject], subject: Subject) -> int | None:
    """The number of the plain FP32 IR that runs at the same `at`, on the same processor, as `subject`."""
    for number, other in enumerate(chosen):
        is_plain = (other.runtime, other.graph, other.weights) == ("IR", "plain", "FP32")
        if is_plain and (other.at, other.processor) == (subject.at, subject.processor):
            return number
    return None
