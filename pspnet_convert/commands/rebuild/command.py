"""`pspnet-convert rebuild`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pspnet_convert.command_line import Takes, command, print_json
from pspnet_convert.commands.rebuild.options import RebuildOptions
from pspnet_convert.job_options import JobOptions

if TYPE_CHECKING:
    from pspnet_convert.commands.rebuild.compare import Rebuild


def _show(result: Rebuild, as_json: bool) -> None:
    from pspnet_convert.tables import print_table, rebuild_table

    if as_json:
        print_json(result.as_dict())
    else:
        print_table(rebuild_table(result))


@command(
    Takes(RebuildOptions),
    Takes(JobOptions, "progress"),
    show=_show,
    example="pspnet-convert rebuild --check public/pspnet-pytorch/manifest.json",
)
def rebuild(options: RebuildOptions, asked: JobOptions) -> Rebuild:
    """Convert again as a manifest says, in a temporary folder, and compare the digests.

    Lists tools whose versions differ from the manifest's. Exit code 0: the same files; 19: others.
    """
    import tempfile
    from pathlib import Path

    from pspnet_convert.commands.export_onnx.stage import export_stage
    from pspnet_convert.commands.rebuild.compare import compare
    from pspnet_convert.commands.rebuild.plan import find_checkpoint, read_plan
    from pspnet_convert.commands.to_ir.front_ends import find_front_end
    from pspnet_convert.commands.to_ir.stage import to_ir_stage
    from pspnet_convert.files import temporary_folder
    from pspnet_convert.job import open_job
    from pspnet_convert.pipeline import CONVERSION, in_order

    assert options.check is not None, "click and the signature require it"
    manifest = read_plan(options.check)
    exported, converted = manifest.stages["export-onnx"], manifest.stages.get("to-ir")
    recorded = exported.inputs.checkpoint
    with temporary_folder(Path(tempfile.gettempdir())) as folder:
        temporary = JobOptions(
            model=manifest.model,
            output_dir=folder,
            checkpoint=find_checkpoint(options.check, recorded, options.checkpoint),
            allow_unknown_checkpoint=not recorded.is_the_cards,
            progress=asked.progress,
        )
        with open_job(temporary) as job:
            runs = {"export-onnx": lambda: job.run(export_stage(job, exported.options))}
            if converted is not None:
                find_front_end(converted.options.front_end, dict(converted.options.mo_arg))  # may not be installed
                runs["to-ir"] = lambda: job.run(to_ir_stage(job, converted.options))
            outcomes = in_order(CONVERSION, runs)
    return compare(options.check, manifest, outcomes)
