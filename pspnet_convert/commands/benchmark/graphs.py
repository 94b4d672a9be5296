"""The models that `benchmark` times: each graph exported and converted in a temporary folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.benchmark.options import FOLDED, WINOGRAD
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.commands.export_onnx.write_onnx import write_onnx, write_plain_onnx
from pspnet_convert.commands.quantize.calibrate import calibration_images, write_int8
from pspnet_convert.commands.quantize.options import DEFAULT_SUBSET
from pspnet_convert.commands.to_ir.convert import convert_to_ir
from pspnet_convert.commands.to_ir.front_ends import FrontEnd, find_front_end
from pspnet_convert.errors import ImageError
from pspnet_convert.files import writing
from pspnet_convert.image_shape import ImageShape
from pspnet_convert.job import Job
from pspnet_convert.runtimes.input_form import PLAIN
from pspnet_convert.runtimes.nncf_install import require_nncf
from pspnet_convert.workspace import INT8, PRECISIONS

log = logging.getLogger(__name__)
Graphs = dict[str, tuple[Path, dict[str, Path]]]


def make_graphs(job: Job, folder: Path, graphs: Sequence[str], shape: ImageShape, *, int8: bool) -> Graphs:
    """The ONNX of each of `graphs`, and its IRs by precision, all in `folder`, for images of `shape`; with `int8`, also
    the folded graph in INT8.

    DependencyError without NNCF, ImageError without images to calibrate with, where INT8 is asked for.
    """
    front_end = find_front_end("auto", {})
    images = _calibration(job.card) if int8 else []
    job.checkpoint_record()
    models: Graphs = {}
    with writing(job.workspace.folder):
        for graph in graphs:
            log.info("benchmark: converting the %s graph", graph)
            onnx = models[FOLDED][0] if graph == WINOGRAD and FOLDED in models else None
            models[graph] = _convert(job, folder / graph, graph, shape, front_end, onnx)
        if int8:
            log.info("benchmark: quantizing the folded graph")
            irs = models[FOLDED][1]
            irs[INT8] = irs["FP32"].with_name(f"{INT8}.xml")
            write_int8(irs["FP32"], job.card, shape, PLAIN, images, irs[INT8])
    return models


def _convert(
    job: Job, folder: Path, graph: str, shape: ImageShape, front_end: FrontEnd, onnx: Path | None
) -> tuple[Path, dict[str, Path]]:
    """`onnx`: the graph's, if it is there already."""
    folder.mkdir()
    irs = {precision: folder / f"{precision}.xml" for precision in PRECISIONS}
    onnx = onnx or _export(job, folder / "model.onnx", graph, shape)
    convert_to_ir(onnx, job.card, irs, front_end, shape, winograd="auto" if graph == WINOGRAD else "off")
    return onnx, irs


def _export(job: Job, target: Path, graph: str, shape: ImageShape) -> Path:
    options = ExportOptions((1, *shape[1:]), batch=shape[0], fold_pyramid=graph in (FOLDED, WINOGRAD))
    if graph == "plain":
        write_plain_onnx(job.source.network, job.card, target, options)
    else:
        write_onnx(job.source.network, job.card, target, options, job.source.provenance())
    return target


def _calibration(card: ModelCard) -> list[Path]:
    require_nncf()
    try:
        return calibration_images(card, None, DEFAULT_SUBSET)
    except ImageError as error:
        raise ImageError(f"--int8 has no images to calibrate with: {error.what}", "Leave --int8 out.") from error
