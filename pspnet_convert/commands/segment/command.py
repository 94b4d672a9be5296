"""`pspnet-convert segment`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pspnet_convert.command_line import Takes, command, print_json
from pspnet_convert.commands.segment.options import SegmentOptions
from pspnet_convert.job_options import JobOptions

if TYPE_CHECKING:
    from pspnet_convert.commands.segment.paint import Segmented


def _show(done: Sequence[Segmented], as_json: bool) -> None:
    from pspnet_convert.tables import print_table, segment_table

    if as_json:
        print_json([one.as_dict() for one in done])
    else:
        print_table(segment_table({str(one.overlay): one.shares for one in done}))


@command(
    Takes(SegmentOptions),
    Takes(JobOptions, "output_dir"),
    show=_show,
    example="pspnet-convert segment photo.jpg --model demo",
)
def segment(options: SegmentOptions, asked: JobOptions) -> Sequence[Segmented]:
    """Segment images with the IR: an overlay with a legend, and a palette PNG of each.

    They are written to public/<model>/segmented/.
    """
    from dataclasses import replace

    from pspnet_convert.commands.segment.paint import paint_images
    from pspnet_convert.job import open_job
    from pspnet_convert.runtimes.backends import OpenVinoBackend

    with open_job(replace(asked, model=options.model)) as job:
        shape = job.exported_shape()
        ir, device = job.ir(options.precision), options.device
        backend = OpenVinoBackend(ir, job.card, shape, job.input_form(), device=device)
        return list(paint_images(backend, job.card, shape, options.images, job.workspace.folder / "segmented"))
