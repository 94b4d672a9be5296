"""`pspnet-convert benchmark`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pspnet_convert.command_line import Takes, command, print_json
from pspnet_convert.commands.benchmark.options import BenchmarkOptions
from pspnet_convert.job_options import CHECKPOINT, PLACE, JobOptions

if TYPE_CHECKING:
    from pspnet_convert.commands.benchmark.figures import Timing


def _show(rows: Sequence[Timing], as_json: bool) -> None:
    from pspnet_convert.tables import benchmark_table, print_table

    if as_json:
        print_json([row.as_dict() for row in rows])
    else:
        print_table(benchmark_table(rows))


@command(
    Takes(JobOptions, *PLACE, *CHECKPOINT, "progress"),
    Takes(BenchmarkOptions),
    show=_show,
    example="pspnet-convert benchmark demo --plot speed.png",
)
def benchmark(asked: JobOptions, options: BenchmarkOptions) -> Sequence[Timing]:
    """Time PyTorch, ONNX and IR in turns: the graph that torch exports by itself, and this tool's.

    Nothing in the workspace changes: each graph is converted in a temporary folder.
    """
    from pspnet_convert.commands.benchmark.figures import subjects, time_in_turns
    from pspnet_convert.commands.benchmark.graphs import make_graphs
    from pspnet_convert.commands.benchmark.plot import plot_benchmark
    from pspnet_convert.files import refuse_special, temporary_folder, write_atomically
    from pspnet_convert.job import open_job
    from pspnet_convert.processor import chosen_processors, this_processor
    from pspnet_convert.progress import steps

    processors = chosen_processors(options.processor, this_processor())  # before the work
    if options.plot is not None:
        refuse_special(options.plot)
    with open_job(asked) as job, temporary_folder(job.workspace.folder) as folder:
        models = make_graphs(job, folder, int8=options.int8)
        job.source.release()
        chosen = subjects(job.source.path, models, processors)
        graphs = {graph: onnx for graph, (onnx, _) in models.items()}
        turns = len(chosen) * (options.rounds + 1)
        with steps(job.progress, turns, "timing", stage="benchmark", unit="turns") as note:
            rows = time_in_turns(job.card, job.card.input.shape, chosen, graphs, options.rounds, note)
    if options.plot is not None:
        with write_atomically(options.plot) as (temporary,):
            plot_benchmark(rows, temporary)
    return rows
