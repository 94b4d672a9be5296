"""`pspnet-convert report`."""

from __future__ import annotations

from pathlib import Path

from pspnet_convert.command_line import Takes, command, print_json
from pspnet_convert.job_options import PLACE, JobOptions


def _show(page: Path, as_json: bool) -> None:
    if as_json:
        print_json({"report": str(page)})
    else:
        print(page)


@command(Takes(JobOptions, *PLACE), show=_show, example="pspnet-convert report demo -o models")
def report(asked: JobOptions) -> Path:
    """Write the page of what was done so far, public/<model>/report.html, from the manifest."""
    from pspnet_convert.job import open_job

    with open_job(asked) as job:
        return job.write_page()
