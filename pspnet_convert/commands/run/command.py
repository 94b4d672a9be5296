"""`pspnet-convert run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pspnet_convert.command_line import Takes, command
from pspnet_convert.commands.download.options import DownloadOptions
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.commands.to_ir.options import ToIrOptions
from pspnet_convert.commands.verify.options import ReportingOptions, VerifyOptions
from pspnet_convert.commands.verify.outcome import failure_of_verification, remove_earlier, show_verification
from pspnet_convert.errors import OptionError
from pspnet_convert.job_options import CHECKPOINT, PLACE, RUN, JobOptions
from pspnet_convert.results import ModelPaths, StagesResult

if TYPE_CHECKING:
    from pspnet_convert.stage import Outcome


@command(
    Takes(JobOptions, *PLACE, *CHECKPOINT, *RUN),
    Takes(DownloadOptions),
    Takes(ExportOptions),
    Takes(ToIrOptions),
    Takes(VerifyOptions, "images"),
    Takes(ReportingOptions, "junit"),
    show=show_verification,
    example="pspnet-convert run demo -o models",
)
def run(
    asked: JobOptions,
    download: DownloadOptions,
    export: ExportOptions,
    to_ir: ToIrOptions,
    verify: VerifyOptions,
    reporting: ReportingOptions,
) -> StagesResult:
    """Run all stages: download, export-onnx, to-ir, verify. Then write their page, report.html.

    Skips stages whose inputs have not changed. The exit codes are those of `verify`.
    """
    from pspnet_convert.commands.download.stage import fetch_checkpoint
    from pspnet_convert.commands.export_onnx.stage import export_stage
    from pspnet_convert.commands.run.request import request_of_run
    from pspnet_convert.commands.to_ir.front_ends import find_front_end
    from pspnet_convert.commands.to_ir.stage import to_ir_stage
    from pspnet_convert.commands.verify.junit import write_junit
    from pspnet_convert.commands.verify.reference_ahead import ReferenceAhead, is_worth_it
    from pspnet_convert.commands.verify.stage import verify_stage
    from pspnet_convert.files import temporary_folder
    from pspnet_convert.job import open_job
    from pspnet_convert.pipeline import CONVERSION, in_order
    from pspnet_convert.runtimes.value_range import check_type

    remove_earlier(reporting.junit)
    if asked.config is not None or asked.checkpoint is not None:
        given = {"--source": download.source, "--allow-http-redirect": download.allow_http_redirect}
        for flag in (flag for flag, value in given.items() if value):
            raise OptionError(f"{flag} is for a download: this checkpoint is the file given with --checkpoint")
    with open_job(asked) as job, temporary_folder(job.workspace.folder) as folder, ReferenceAhead() as ahead:
        # What cannot be done ends the run before the work.
        front_end = find_front_end(to_ir.front_end, dict(to_ir.mo_arg))
        export.for_card(job.card.input.shape)
        check_type(job.card.input, to_ir.form)

        def export_onnx() -> Outcome:
            stage = export_stage(job, export)
            if is_worth_it(job.source.path) and job.done_before(stage) is None:
                ahead.begin(job.source.path, request_of_run(job, export, to_ir, front_end, verify), folder)
            return job.run(stage)

        runs = {
            "download": lambda: fetch_checkpoint(job, download),
            "export-onnx": export_onnx,
            "to-ir": lambda: job.run(to_ir_stage(job, to_ir)),
            "verify": lambda: job.run(verify_stage(job, verify, ahead)),
        }
        if asked.checkpoint is not None:
            del runs["download"]
        outcomes = in_order(CONVERSION, runs)
        job.write_page()
        verified = next(outcome.result for outcome in outcomes if outcome.stage == "verify")
        if reporting.junit is not None:
            write_junit(reporting.junit, job.card.name, verified)
        return StagesResult(outcomes, ModelPaths.of(job), failure_of_verification(verified))
