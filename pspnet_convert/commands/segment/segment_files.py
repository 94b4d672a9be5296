"""Segment files, and write the overlay and the label map of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.segment.labelled import Labelling, Labels, Picture
from pspnet_convert.commands.segment.paint import bands, paint, with_legend
from pspnet_convert.commands.segment.sources import Source
from pspnet_convert.commands.segment.video import Clip, open_video, write_clip
from pspnet_convert.errors import ImageError
from pspnet_convert.files import write_atomically
from pspnet_convert.progress import Progress, steps
from pspnet_convert.runtimes.bands import viewable
from pspnet_convert.runtimes.images import palette_image


@dataclass(frozen=True)
class Segmented:
    """The result for one file. `shares`: each class's part of its area, 0..1, by class name, largest first.

    Of a video, `labels` is the folder of the label maps, and `frames` how many it has. `overlay`: None if none is made.
    """

    image: Path
    overlay: Path | None
    labels: Path
    shares: dict[str, float]
    frames: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        overlay = None if self.overlay is None else str(self.overlay)
        found = {"image": str(self.image), "overlay": overlay, "labels": str(self.labels), "shares": self.shares}
        return found if self.frames is None else {**found, "frames": self.frames}


@dataclass(frozen=True)
class Writing:
    """How results are written into `folder`: colours that cover `opacity` of a picture, or label maps only."""

    card: ModelCard
    folder: Path
    opacity: float = 0.7
    labels_only: bool = False


def segment_files(
    labelling: Labelling, writing: Writing, sources: Sequence[Source], every: int, progress: Progress
) -> Iterator[Segmented]:
    """Write `<name>.overlay.png` and `<name>.labels.png` of each picture, of a video `<name>.overlay.mp4` and the label
    map of every `every`-th frame as `<name>.labels/<number>.png`.

    All have the picture's size. The overlay is painted on the picture as people can see it (bands.viewable); a
    picture's has a legend on its right. ImageError for a file that is neither a picture nor a video.
    """
    for is_video, group in groupby(sources, key=lambda source: source.is_video):
        if is_video:
            yield from (_segment_video(labelling, writing, source, every, progress) for source in group)
        else:
            yield from _segment_pictures(labelling, writing, list(group), progress)


def _segment_pictures(
    labelling: Labelling, writing: Writing, sources: Sequence[Source], progress: Progress
) -> Iterator[Segmented]:
    if labelling.slides:
        for source in sources:
            picture = _read(labelling, source)
            with steps(
                progress, labelling.windows_of(picture), source.path.name, stage="segment", unit="windows"
            ) as step:
                ((_, labels),) = labelling.labels([picture], step)
            yield _write_picture(writing, source, picture, labels)
        return
    with steps(progress, len(sources), "images", stage="segment") as step:
        pictures = (_read(labelling, source) for source in sources)
        for source, (picture, labels) in zip(sources, labelling.labels(pictures), strict=True):
            yield _write_picture(writing, source, picture, labels)
            step()


def _read(labelling: Labelling, source: Source) -> Picture:
    return Picture(labelling.files.read(source.path), str(source.path), source.path)


def _write_picture(writing: Writing, source: Source, picture: Picture, labels: Labels) -> Segmented:
    card, counts = writing.card, _counts(labels, writing.card)
    shares = _shares(counts, card)
    overlay, label_map = (writing.folder / f"{source.name}.{kind}.png" for kind in ("overlay", "labels"))
    targets = [label_map] if writing.labels_only else [overlay, label_map]
    with write_atomically(*targets) as made:
        palette_image(labels, card).save(made[-1])
        if not writing.labels_only:
            painted = viewable(picture.image)
            painted = painted if painted.flags.writeable else painted.copy()
            paint(painted, labels, card, writing.opacity)
            with_legend(painted, shares, card).save(made[0])
    return Segmented(source.path, None if writing.labels_only else overlay, label_map, shares)


def _segment_video(labelling: Labelling, writing: Writing, source: Source, every: int, progress: Progress) -> Segmented:
    if not labelling.files.is_picture(source.path):
        raise ImageError(f"{source.path}: is a video, and the model takes no pictures of three colours in bytes")
    card, counts = writing.card, np.zeros(len(writing.card.classes), np.int64)
    clip = Clip(
        None if writing.labels_only else writing.folder / f"{source.name}.overlay.mp4",
        writing.folder / f"{source.name}.labels",
    )
    with open_video(source.path, every) as video, _frame_steps(progress, video.frames, source.path.name) as step:
        pictures = (Picture(frame, str(source.path)) for frame in video.read())
        with write_clip(clip, video.rate) as write:
            for number, (picture, labels) in enumerate(labelling.labels(pictures)):
                counts += _counts(labels, card)
                painted = viewable(picture.image)
                if not writing.labels_only:
                    paint(painted, labels, card, writing.opacity)
                write(painted, palette_image(labels, card), number * every)
                step()
    shares = _shares(counts, card)
    return Segmented(source.path, clip.overlay, clip.labels, shares, number + 1)


@contextmanager
def _frame_steps(progress: Progress, total: int | None, name: str) -> Iterator[Callable[[], None]]:
    """As progress.steps, of frames, with how many a second there are."""
    times: list[float] = []  # of the first frame and the last; before the first the model is compiled
    done = 0

    def step() -> None:
        nonlocal done
        times[1:] = [time.perf_counter()]
        done += 1
        progress.advance(1, f"{(done - 1) / (times[-1] - times[0]):.1f} frames/s" if done > 1 else "")

    progress.start(total, name, stage="segment", unit="frames")
    try:
        yield step
    finally:
        progress.done()


def _counts(labels: Labels, card: ModelCard) -> NDArray[np.int64]:
    """How many pixels each class has. bincount makes 8 bytes of a pixel, so it is given some rows at a time."""
    counts = np.zeros(len(card.classes), np.int64)
    for rows in bands(labels):
        counts += np.bincount(labels[rows].ravel(), minlength=len(counts))
    return counts


def _shares(counts: NDArray[np.int64], card: ModelCard) -> dict[str, float]:
    order = np.argsort(-counts, kind="stable")
    return {card.class_names[number]: float(counts[number] / counts.sum()) for number in order if counts[number]}
