"""What `benchmark` times: each graph, exported and converted anew in a temporary folder.

The timing itself is benchmark.py's business; the workspace and its manifest stay as they are.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pspnet_convert.benchmark.figures import GRAPHS, Timing, subjects
from pspnet_convert.benchmark.figures import benchmark as time_in_turns
from pspnet_convert.files import temporary_folder, writing
from pspnet_convert.job import Job
from pspnet_convert.progress import steps
from pspnet_convert.quantize.calibrate import DEFAULT_SUBSET, calibration_images, quantize
from pspnet_convert.runtimes.input_form import PLAIN
from pspnet_convert.to_ir.convert import convert_to_ir
from pspnet_convert.to_ir.front_ends import FrontEnd, find_front_end
from pspnet_convert.workspace import INT8, PRECISIONS

log = logging.getLogger(__name__)


def benchmark(job: Job, rounds: int, *, int8: bool = False) -> list[Timing]:
    """Time each graph, converted anew, so that nothing in the workspace changes; `int8`: and the folded in INT8."""
    front_end = find_front_end("auto", {})
    job.checkpoint_record()
    with temporary_folder(job.workspace.folder) as folder:
        models = {}
        for graph in GRAPHS:
            log.info("benchmark: converting the %s graph", graph)
            with writing(job.workspace.folder):
                models[graph] = _convert_into(job, folder / graph, graph, front_end)
        if int8:
            log.info("benchmark: quantizing the folded graph")
            _, irs = models["folded"]
            with writing(job.workspace.folder):
                irs[INT8] = _quantize_beside(job, irs["FP32"])
        job.original.release()
        chosen = subjects(job.original.path, models)
        graphs = {graph: onnx for graph, (onnx, _) in models.items()}
        with steps(job.progress, len(chosen) * (rounds + 1), "timing", stage="benchmark", unit="turns") as note:
            return time_in_turns(job.card, job.card.input.shape, chosen, graphs, rounds, note)


def _convert_into(job: Job, folder: Path, graph: str, front_end: FrontEnd) -> tuple[Path, dict[str, Path]]:
    from pspnet_convert.export_onnx.write_onnx import ExportOptions, export_onnx, export_plainly

    folder.mkdir()
    onnx = folder / "model.onnx"
    irs = {precision: folder / f"{precision}.xml" for precision in PRECISIONS}
    if graph == "plain":
        export_plainly(job.original.network, job.card, onnx)
    else:
        options = ExportOptions(job.card.input.shape, fold_pyramid=graph == "folded")
        export_onnx(job.original.network, job.card, onnx, options, job.original.provenance())
    convert_to_ir(onnx, job.card, irs, front_end)
    return onnx, irs


def _quantize_beside(job: Job, ir: Path) -> Path:
    target = ir.with_name(f"{INT8}.xml")
    images = calibration_images(job.card, None, DEFAULT_SUBSET)
    quantize(ir, job.card, job.card.input.shape, PLAIN, images, target)
    return target
