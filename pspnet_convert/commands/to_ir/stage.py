"""The stage to-ir: the workspace's ONNX as OpenVINO IR."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from pspnet_convert.commands.to_ir.convert import convert_to_ir
from pspnet_convert.commands.to_ir.front_ends import find_front_end
from pspnet_convert.commands.to_ir.options import ToIrOptions
from pspnet_convert.errors import count
from pspnet_convert.files import writing
from pspnet_convert.job import Job, require
from pspnet_convert.runtimes.value_range import check_type
from pspnet_convert.runtimes.winograd_layers import count_winograd
from pspnet_convert.stage import Stage
from pspnet_convert.workspace import PRECISIONS, Workspace, ir_files

log = logging.getLogger(__name__)


def to_ir_stage(job: Job, options: ToIrOptions) -> Stage:
    """The workspace's ONNX as IR, in the form and at the precisions that `options` say."""
    front_end = find_front_end(options.front_end, dict(options.mo_arg))
    check_type(job.card.input, options.form)
    onnx = job.workspace.onnx
    require([onnx], "export-onnx")
    precisions = [precision for precision in PRECISIONS if precision in options.precision]

    def make(made: Workspace) -> dict[str, Any]:
        targets: dict[str, Path] = {precision: made.ir(precision) for precision in precisions}
        with writing(job.workspace.folder):
            for path in targets.values():
                path.parent.mkdir()
            shape, form = job.exported_shape(), options.form
            gives = job.output_form()
            convert_to_ir(onnx, job.card, targets, front_end, shape, form, gives=gives, winograd=options.winograd)
        if options.winograd != "off":
            number = count_winograd(next(iter(targets.values())))
            words = count(number, "convolution") if number else "no convolution: the IR is that of --winograd off"
            log.info("to-ir: by Winograd's algorithm: %s", words)
        return {}

    return Stage(
        "to-ir",
        make,
        inputs={"onnx": job.record(onnx), "card": job.converted_card()},
        options=replace(options, precision=tuple(precisions), front_end=front_end.name),
        tools=front_end.tools,
        outputs=[file for precision in precisions for file in ir_files(job.workspace.ir(precision))],
    )
