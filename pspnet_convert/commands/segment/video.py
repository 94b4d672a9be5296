"""Read the frames of a video; write an overlay video, and the label maps of its frames."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from pspnet_convert.errors import ImageError, WorkspaceError
from pspnet_convert.files import move_into_place, refuse_special, temporary_folder, writing
from pspnet_convert.runtimes.images import RGB, to_bgr

_USUAL_RATE = 25.0  # frames a second, where a file does not say
_FASTEST = 600.0
_CODEC = "mp4v"  # MPEG-4 part 2, which every build of OpenCV with FFmpeg writes
log = logging.getLogger(__name__)


class Video:
    """A video, of which every `every`-th frame is read, from the first.

    `rate`: of these frames, a second. `frames`: how many there should be; None if the file does not say.
    """

    def __init__(self, path: Path, capture: Any, every: int) -> None:
        import cv2

        self._path, self._capture, self._every = path, capture, every
        rate, count = float(capture.get(cv2.CAP_PROP_FPS)), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.rate = (rate if 0 < rate <= _FASTEST else _USUAL_RATE) / every
        self._count = count if count > 0 else None
        self.frames = None if self._count is None else math.ceil(self._count / every)

    def read(self) -> Iterator[RGB]:
        """The frames. ImageError if there are none; a warning if there are fewer than the file says."""
        number = 0
        while self._capture.grab():
            if number % self._every == 0:
                is_read, frame = self._capture.retrieve()
                if not is_read:
                    break
                yield to_bgr(np.asarray(frame, np.uint8))  # BGR as RGB
            number += 1
        if not number:
            raise _unreadable(self._path)
        if self._count is not None and number < self._count:
            log.warning("%s: can be read up to frame %d of %d", self._path, number, self._count)


@contextmanager
def open_video(path: Path, every: int) -> Iterator[Video]:
    """The video in a file; ImageError if OpenCV reads no video there."""
    import cv2

    if not path.is_file():  # OpenCV would take the name for a pattern of names, or for a URL
        raise ImageError(f"{path}: there is no such video")
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise _unreadable(path)
        yield Video(path, capture, every)
    finally:
        capture.release()


def _unreadable(path: Path) -> ImageError:
    advice = "Give a video that OpenCV reads: MP4, AVI, MKV, WebM and others, if the file is whole."
    return ImageError(f"{path}: cannot be read as a video", advice)


@dataclass(frozen=True)
class Clip:
    """What is written of a video: the overlay video, if one is wanted, and the folder of the label maps."""

    overlay: Path | None
    labels: Path


Write = Callable[[RGB, Pillow.Image, int], None]


@contextmanager
def write_clip(clip: Clip, rate: float) -> Iterator[Write]:
    """A function that writes a frame: the painted picture, its label map, and its number in the video.

    When the block ends without an error, both take their places; an older folder of label maps is removed.
    WorkspaceError where the disk refuses, or OpenCV writes no such video.
    """
    folder = clip.labels.parent
    with temporary_folder(folder) as temporary, writing(folder):
        labels, overlay = temporary / "labels", temporary / "overlay.mp4"
        labels.mkdir()
        painted = None if clip.overlay is None else _OverlayWriter(overlay, rate)

        def write(picture: RGB, label_map: Pillow.Image, number: int) -> None:
            label_map.save(labels / f"{number:06}.png")
            if painted is not None:
                painted.write(picture)

        try:
            yield write
        finally:
            if painted is not None:
                painted.end()
        if painted is not None and clip.overlay is not None:
            painted.check(clip.overlay)
            move_into_place([overlay], [clip.overlay])
        refuse_special(clip.labels)
        if clip.labels.is_dir():
            shutil.rmtree(clip.labels)
        labels.replace(clip.labels)


class _OverlayWriter:
    """Writes pictures of one size to an MP4, at `rate` pictures a second."""

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate, self._frames = path, rate, 0
        self._writer: Any = None  # cv2.VideoWriter, once the size is known

    def write(self, picture: RGB) -> None:
        import cv2

        if self._writer is None:
            height, width = picture.shape[:2]
            # MPEG-4 counts time in at most 65535 parts of a second.
            rate = max(0.01, round(self._rate, 2))
            self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*_CODEC), rate, (width, height))
        self._writer.write(to_bgr(picture))
        self._frames += 1

    def end(self) -> None:
        if self._writer is not None:
            self._writer.release()

    def check(self, target: Path) -> None:
        """Raise WorkspaceError unless all frames are in the file: OpenCV reports no error when it writes."""
        import cv2

        capture = cv2.VideoCapture(str(self._path))
        written = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if written != self._frames:
            raise WorkspaceError(
                f"{target}: cannot be written: OpenCV wrote {written} of {self._frames} frames",
                "Make room there; or write label maps alone, with --labels-only.",
            )
