"""`pspnet-convert segment`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pspnet_convert.command_line import Takes, command, print_json
from pspnet_convert.commands.segment.options import SegmentOptions
from pspnet_convert.job_options import JobOptions

if TYPE_CHECKING:
    from pspnet_convert.commands.segment.segment_files import Segmented


def _show(done: Sequence[Segmented], as_json: bool) -> None:
    from pspnet_convert.tables import print_table, segment_table

    if as_json:
        print_json([one.as_dict() for one in done])
    else:
        print_table(segment_table({str(one.overlay or one.labels): one.shares for one in done}))


@command(
    Takes(SegmentOptions),
    Takes(JobOptions, "output_dir", "progress"),
    show=_show,
    example="pspnet-convert segment photo.jpg --model demo",
)
def segment(options: SegmentOptions, asked: JobOptions) -> Sequence[Segmented]:
    """Segment images and videos with the IR: an overlay with a legend, and a palette PNG of each.

    IMAGES are files, folders and patterns such as 'photos/**/*.jpg'. The overlays and label maps are written to
    public/<model>/segmented/.
    """
    from dataclasses import replace

    from pspnet_convert.commands.segment.labelled import Labelling
    from pspnet_convert.commands.segment.segment_files import Writing, segment_files
    from pspnet_convert.commands.segment.sources import find_sources
    from pspnet_convert.job import open_job
    from pspnet_convert.runtimes.backends import OpenVinoBackend

    with open_job(replace(asked, model=options.model)) as job:
        shape = job.exported_shape()
        writing = Writing(job.card, job.workspace.folder / "segmented", options.opacity, options.labels_only)
        sources = find_sources(options.images, job.workspace.folder)
        # Windows run one after another, to save memory.
        several = not options.slide and (len(sources) > 1 or any(source.is_video for source in sources))
        ir, device = job.ir(options.precision), options.device
        backend = OpenVinoBackend(ir, job.card, shape, job.input_form(), device=device, throughput=several)
        labelling = Labelling(backend, job.card, shape, slide=options.slide, overlap=options.overlap)
        return list(segment_files(labelling, writing, sources, options.every, job.progress))
