"""`pspnet-convert verify`."""

from __future__ import annotations

from pspnet_convert.command_line import Takes, command
from pspnet_convert.commands.verify.options import ForeignModelOptions, ReportingOptions, VerifyOptions
from pspnet_convert.commands.verify.outcome import failure_of_verification, remove_earlier, show_verification
from pspnet_convert.errors import OptionError
from pspnet_convert.job_options import CHECKPOINT, PLACE, RUN, JobOptions
from pspnet_convert.results import ModelPaths, StagesResult


@command(
    Takes(JobOptions, *PLACE, *CHECKPOINT, *RUN),
    Takes(ForeignModelOptions),
    Takes(VerifyOptions),
    Takes(ReportingOptions),
    show=show_verification,
    example="pspnet-convert verify demo --images photo.jpg",
)
def verify(
    asked: JobOptions, foreign: ForeignModelOptions, options: VerifyOptions, reporting: ReportingOptions
) -> StagesResult:
    """Compare ONNX and IR with the PyTorch network, pixel by pixel.

    With --onnx or --ir, those files are compared instead of the workspace's, and the manifest stays as it is. They
    must take what --input-shape, --batch, --input-type and --input-layout say. The workspace's own files take what
    they were made for.

    Exit code 0: the same answers; 9: a converted model is wrong; 10: inconclusive, the images could not show it.
    """
    from pspnet_convert.commands.verify.junit import write_junit
    from pspnet_convert.commands.verify.pictures import save_differences
    from pspnet_convert.commands.verify.stage import verify_foreign_stage, verify_stage
    from pspnet_convert.job import open_job

    remove_earlier(reporting.junit)
    _refuse_form_of_own_files(foreign)
    with open_job(asked) as job:
        if foreign.onnx or foreign.ir:
            outcome = job.run(verify_foreign_stage(job, foreign, options, reporting.save_diff))
        else:
            outcome = job.run(verify_stage(job, options))
            if reporting.save_diff is not None:
                save_differences(job.workspace.verification, outcome.result, reporting.save_diff)
        if reporting.junit is not None:
            write_junit(reporting.junit, job.card.name, outcome.result)
        return StagesResult([outcome], ModelPaths.of(job), failure_of_verification(outcome.result))


def _refuse_form_of_own_files(foreign: ForeignModelOptions) -> None:
    if foreign.onnx or foreign.ir:
        return
    for name in ("input_shape", "batch", "input_type", "input_layout"):
        if getattr(foreign, name) is not None:
            raise OptionError(f"--{name.replace('_', '-')} is for files from elsewhere (--onnx, --ir)")
