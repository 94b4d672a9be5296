"""The stage to-ir: the workspace's ONNX as OpenVINO IR.

How it is converted is ir.py's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pspnet_convert.job import Job, Outcome, require
from pspnet_convert.runtimes.input_form import InputForm
from pspnet_convert.to_ir.convert import convert_to_ir
from pspnet_convert.to_ir.front_ends import FrontEnd
from pspnet_convert.workspace import PRECISIONS, ir_files


def to_ir(job: Job, precisions: Sequence[str], front_end: FrontEnd, form: InputForm) -> Outcome:
    """The workspace's ONNX as IR that takes images in `form`, at each of `precisions`."""
    onnx = job.workspace.onnx
    require([onnx], "export-onnx")
    targets = {precision: job.workspace.ir(precision) for precision in PRECISIONS if precision in precisions}

    def work() -> dict[str, Any]:
        with job.write_irs_atomically(list(targets.values())) as made:
            convert_to_ir(onnx, job.card, dict(zip(targets, made)), front_end, job.exported_shape(), form)
        return {}

    return job.stage(
        "to-ir",
        inputs={"onnx": asdict(job.record(onnx)), "card": job.converted_card()},
        options={
            "precisions": list(targets),
            "front_end": front_end.name,
            "mo_args": dict(front_end.mo_args),
            "input_type": form.type,
            "input_layout": form.layout,
        },
        tools=front_end.tools,
        outputs=[file for path in targets.values() for file in ir_files(path)],
        work=work,
    )
