"""The stage export-onnx: the checkpoint's network as the workspace's ONNX."""

from __future__ import annotations

from typing import Any

from pspnet_convert import tools
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.files import writing
from pspnet_convert.job import Job
from pspnet_convert.stage import Stage
from pspnet_convert.workspace import Workspace


def export_stage(job: Job, options: ExportOptions) -> Stage:
    """The checkpoint's network as ONNX, in the form that `options` say."""
    asked = options.for_card(job.card.input.shape)

    def make(made: Workspace) -> dict[str, Any]:
        # Imported here, for torch: a stage that is skipped need not wait for it.
        from pspnet_convert.commands.export_onnx.write_onnx import write_onnx

        network = job.source.network
        with writing(job.workspace.folder):
            write_onnx(network, job.card, made.onnx, asked, job.source.provenance())
        return {"checkpoint": job.source.findings()}

    return Stage(
        "export-onnx",
        make,
        inputs={"checkpoint": job.checkpoint_record(), "card": job.converted_card()},
        options=asked,
        tools=tools.EXPORT,
        outputs=[job.workspace.onnx],
    )
