"""`pspnet-convert to-ir`."""

from __future__ import annotations

from pspnet_convert.command_line import Takes, command
from pspnet_convert.commands.to_ir.options import ToIrOptions
from pspnet_convert.job_options import OWN_MODEL, PLACE, RUN, JobOptions
from pspnet_convert.results import ModelPaths, StagesResult, show_stages


@command(
    Takes(JobOptions, *PLACE, *OWN_MODEL, *RUN),
    Takes(ToIrOptions),
    show=show_stages,
    example="pspnet-convert to-ir demo --precision FP16",
)
def to_ir(asked: JobOptions, options: ToIrOptions) -> StagesResult:
    """Convert the ONNX to OpenVINO IR that takes plain images: BGR, or channels as they are stored."""
    from pspnet_convert.commands.to_ir.stage import to_ir_stage
    from pspnet_convert.job import open_job, refuse_with_model

    refuse_with_model(asked, "the ONNX of MODEL has been exported")
    with open_job(asked) as job:
        return StagesResult([job.run(to_ir_stage(job, options))], ModelPaths.of(job))
