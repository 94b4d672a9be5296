"""`pspnet-convert download`."""

from __future__ import annotations

from pspnet_convert.command_line import Takes, command
from pspnet_convert.commands.download.options import DownloadOptions
from pspnet_convert.job_options import PLACE, RUN, JobOptions
from pspnet_convert.results import ModelPaths, StagesResult, show_stages


@command(
    Takes(JobOptions, *PLACE, *RUN),
    Takes(DownloadOptions),
    show=show_stages,
    example="pspnet-convert download --source https://mirror.example/models/",
)
def download(asked: JobOptions, options: DownloadOptions) -> StagesResult:
    """Fetch the checkpoint that the model's card names, and check it."""
    from pspnet_convert.commands.download.stage import fetch_checkpoint
    from pspnet_convert.job import open_job

    with open_job(asked) as job:
        return StagesResult([fetch_checkpoint(job, options)], ModelPaths.of(job))
