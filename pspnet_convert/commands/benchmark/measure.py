"""All measurements of one benchmark, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from pspnet_convert.commands.benchmark.figures import Setting, count_operations, time_in_turns
from pspnet_convert.commands.benchmark.layers import time_layers
from pspnet_convert.commands.benchmark.options import FOLDED, BenchmarkOptions
from pspnet_convert.commands.benchmark.others import remark as others_remark
from pspnet_convert.commands.benchmark.ratios import Rounds, remark
from pspnet_convert.commands.benchmark.result import Benchmark
from pspnet_convert.commands.benchmark.startup import time_startup
from pspnet_convert.commands.benchmark.throughput import time_throughput
from pspnet_convert.image_shape import ImageShape
from pspnet_convert.job import Job
from pspnet_convert.progress import steps
from pspnet_convert.runtimes.timing import Subject


def measure(
    job: Job,
    shape: ImageShape,
    options: BenchmarkOptions,
    models: Mapping[str, tuple[Path, Mapping[str, Path]]],
    groups: Sequence[Sequence[Subject]],
    folder: Path,
) -> Benchmark:
    """Time `groups` (figures.subjects) of `models` (graphs.make_graphs), and what else `options` asks for."""
    rounds = Rounds.of(options.rounds)
    operations = count_operations({graph: onnx for graph, (onnx, _) in models.items()})
    quiet = Setting(job.card, shape, rounds, operations)
    turns = sum(len(group) + 1 for group in groups) * (rounds.most + 1)
    with steps(job.progress, turns, "timing", stage="benchmark", unit="turns") as note:
        done = time_in_turns(replace(quiet, note=note), groups)
    chosen = _in_detail(groups[0])
    warmed = done.rounds + 1
    turns = len(chosen) * (warmed * (options.layers + 2 * options.throughput) + done.rounds * options.startup)
    timing = steps(job.progress, turns, "timing in detail", stage="benchmark", unit="turns")
    with timing if turns else nullcontext(quiet.note) as note:
        setting = replace(quiet, note=note)
        layers = [time_layers(setting, one, done.limits, done.rounds) for one in chosen if options.layers]
        throughput = [time_throughput(setting, one, done.rounds) for one in chosen if options.throughput]
        startup = [
            row
            for number, one in enumerate(chosen)
            if options.startup
            for row in time_startup(setting, one, folder / f"cache-{number}", done.rounds)
        ]
    ratios = [(row.name, row.ratio) for row in done.rows if row.ratio is not None]
    ratios += [(row.name, row.ratio) for row in throughput]
    remarks = [
        remark(ratios, done.rounds, is_auto=rounds.is_auto) if ratios else None,
        others_remark(done.others),
        *(one.remark for one in layers),
    ]
    found = [one for one in remarks if one is not None]
    return Benchmark(done.rounds, done.others, done.rows, done.limits, found, layers, throughput, startup)


def _in_detail(subjects: Sequence[Subject]) -> list[Subject]:
    """The IRs that are looked at in detail, of the folded graph or else the last one: FP32 at both precisions, INT8 at
    the default one."""
    wanted = (("FP32", "f32"), ("FP32", "default"), ("INT8", "default"))
    graphs = {one.graph for one in subjects}
    graph = FOLDED if FOLDED in graphs else subjects[-1].graph
    irs = [one for one in subjects if one.runtime == "IR" and one.graph == graph]
    return [one for one in irs if (one.weights, one.at) in wanted]
