"""`pspnet-convert export-onnx`."""

from __future__ import annotations

from pspnet_convert.command_line import Takes, command
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.job_options import CHECKPOINT, PLACE, RUN, JobOptions
from pspnet_convert.results import ModelPaths, StagesResult, show_stages


@command(
    Takes(JobOptions, *PLACE, *CHECKPOINT, *RUN),
    Takes(ExportOptions),
    show=show_stages,
    example="pspnet-convert export-onnx demo --input-shape 1,3,320,320",
)
def export_onnx(asked: JobOptions, options: ExportOptions) -> StagesResult:
    """Export the checkpoint's network to ONNX, argmax folded in."""
    from pspnet_convert.commands.export_onnx.stage import export_stage
    from pspnet_convert.job import open_job

    with open_job(asked) as job:
        return StagesResult([job.run(export_stage(job, options))], ModelPaths.of(job))
