"""The stage export-onnx: the checkpoint's network as the workspace's ONNX.

How it is exported is onnx_export.py's business.
"""

from __future__ import annotations

from typing import Any

from pspnet_convert.job import Job, Outcome
from pspnet_convert.runtimes.input_form import ImageShape
from pspnet_convert.stages import tools


def export_onnx(
    job: Job, shape: ImageShape | None, batch: int, opset: int, *, int32: bool, fold_pyramid: bool
) -> Outcome:
    """The checkpoint's network as ONNX for `batch` images, or any number (DYNAMIC), of the height and width of
    `shape`; the card's where None is given."""
    shape = (batch, *(shape or job.card.input.shape)[1:])
    target = job.workspace.onnx

    def work() -> dict[str, Any]:
        # Late, for torch: a stage that is skipped need not wait for it.
        from pspnet_convert.export_onnx.write_onnx import ExportOptions, export_onnx

        options = ExportOptions(shape, opset, int32, fold_pyramid)
        network = job.original.network
        with job.write_atomically(target) as (temporary,):
            export_onnx(network, job.card, temporary, options, job.original.provenance())
        return {"checkpoint": job.original.findings()}

    return job.stage(
        "export-onnx",
        inputs={"checkpoint": job.checkpoint_record(), "card": job.converted_card()},
        options={"input_shape": list(shape), "opset": opset, "int32": int32, "fold_pyramid": fold_pyramid},
        tools=tools.EXPORT,
        outputs=[target],
        work=work,
    )
