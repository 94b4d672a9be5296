"""`pspnet-convert benchmark`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pspnet_convert.command_line import Takes, command, print_json
from pspnet_convert.commands.benchmark.options import FOLDED, GRAPHS, BenchmarkOptions
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.errors import OptionError
from pspnet_convert.image_shape import DYNAMIC
from pspnet_convert.job_options import CHECKPOINT, PLACE, JobOptions

if TYPE_CHECKING:
    from pspnet_convert.commands.benchmark.result import Benchmark
    from pspnet_convert.job import Job


def _show(result: Benchmark, as_json: bool) -> None:
    if as_json:
        print_json(result.as_dict())
        return
    from pspnet_convert.commands.benchmark.tables import print_benchmark

    print_benchmark(result)


@command(
    Takes(JobOptions, *PLACE, *CHECKPOINT, "progress"),
    Takes(ExportOptions, "input_shape", "batch"),
    Takes(BenchmarkOptions),
    show=_show,
    example="pspnet-convert benchmark demo --rounds auto --layers",
)
def benchmark(asked: JobOptions, export: ExportOptions, options: BenchmarkOptions) -> Benchmark:
    """Time PyTorch, ONNX and IR in turns: the graph that torch exports by itself, and this tool's.

    --layers, --throughput and --startup are of the folded graph's FP32 IR, and of INT8 with --int8. The models in the
    workspace stay as they are: each graph is converted in a temporary folder. Where the workspace has a manifest, it
    gets the figures, and the report page shows them.
    """
    from pspnet_convert import tools
    from pspnet_convert.commands.benchmark.plot import plot_benchmark
    from pspnet_convert.commands.benchmark.record import as_record
    from pspnet_convert.files import refuse_special, temporary_folder, write_atomically
    from pspnet_convert.job import open_job
    from pspnet_convert.pipeline import BENCHMARK
    from pspnet_convert.processor import chosen_processors, this_processor
    from pspnet_convert.runtimes.devices import device_record
    from pspnet_convert.stage import Stage

    processors = chosen_processors(options.processor, this_processor(), options.device)  # before the work
    device = device_record(options.device)  # the same
    if options.plot is not None:
        refuse_special(options.plot)
    if export.batch == DYNAMIC:
        raise OptionError("--batch dynamic: a benchmark times a number of images", "Say --batch and a number.")
    if options.int8 and FOLDED not in (options.graph or GRAPHS):
        raise OptionError("--int8 is of the folded graph", "Add --graph folded.")
    with open_job(asked) as job, temporary_folder(job.workspace.folder) as folder:
        started = time.monotonic()
        asked_for = export.for_card(job.card.input.shape)
        result = _measure(job, asked_for, options, processors, folder)
        if job.manifest.stages:
            inputs = {
                "checkpoint": job.checkpoint_record(),
                "card": job.converted_card(),
                "processor": this_processor().as_dict(),
                "device": device,
            }
            stage = Stage(BENCHMARK, lambda _: {}, inputs, tools=tools.BENCHMARK)
            job.write_record(stage, [], as_record(result, asked_for.shape), started)
    if options.plot is not None:
        with write_atomically(options.plot) as (temporary,):
            plot_benchmark(result.timings, temporary)
    return result


def _measure(
    job: Job, export: ExportOptions, options: BenchmarkOptions, processors: tuple[str, ...], folder: Path
) -> Benchmark:
    from pspnet_convert.commands.benchmark.figures import subjects
    from pspnet_convert.commands.benchmark.graphs import make_graphs
    from pspnet_convert.commands.benchmark.measure import measure

    chosen = [graph for graph in GRAPHS if graph in (options.graph or GRAPHS)]
    models = make_graphs(job, folder, chosen, export.shape, int8=options.int8)
    job.source.release()
    groups = subjects(job.source.path, models, processors, options.device)
    return measure(job, export.shape, options, models, groups, folder)
