"""The ways in which the published accuracy figures were taken: what a model is shown, and what counts of its answer.

Images are read by Pillow, whose JPEG and PNG decoders give OpenCV's bytes, and resized by OpenCV, whose bilinear
filter is another than Pillow's; label maps are resized by Pillow. Files are dataset.py's business, figures miou.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.runtimes.images import padded, resized_labels

Size = tuple[int, int]  # rows, columns
Bytes = NDArray[np.uint8]
_LONGEST = 4  # times the model's side, to which the short side of a picture is brought: 2048 for 512


@dataclass(frozen=True)
class Sample:
    """What a model is shown, and what its answer is held against.

    `image`: uint8 BGR [h, w, 3]. `logits_at`: to what size the logits are brought (bilinear) before the argmax.
    `picture`: how many of the label map's rows and columns, from its top left corner, the picture covers; that part
    is scored against `truth`, uint8 [H, W].
    """

    image: Bytes
    truth: Bytes
    logits_at: Size
    picture: Size

    def scored(self, labels: NDArray[np.integer[Any]]) -> Bytes:
        """The part of a label map [*logits_at] that counts, at the truth's size."""
        rows, columns = self.picture
        part = labels[:rows, :columns]
        return part.astype(np.uint8) if part.shape == self.truth.shape else resized_labels(part, *self.truth.shape)


def crop(image: Bytes, truth: Bytes, size: Size, fill: Bytes) -> Sample:
    """Open Model Zoo's: the short side made the model's (the long one at most four times that), the centre cut out.

    The truth gets the same resize and cut. A picture that is even longer does not fill the model's input: it is
    padded as under `pad`. New sides are cut off to an integer; a model that is not square counts by its longer side.
    """
    rows, columns = _short_side_at(_size(image), max(size))
    top, left = max(0, rows - size[0]) // 2, max(0, columns - size[1]) // 2
    window = slice(top, top + size[0]), slice(left, left + size[1])
    shown = _bilinear(image, (rows, columns))[window]
    return Sample(padded(shown, *size, fill), resized_labels(truth, rows, columns)[window], size, _size(shown))


def pad(image: Bytes, truth: Bytes, size: Size, fill: Bytes) -> Sample:
    """Open Model Zoo's: fitted into the model's size, aspect kept, padded right and below with the mean colour.

    The padding is cut off the prediction, which is then resized to the truth's size (nearest).
    """
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    rows, columns = (max(1, int(scale * side)) for side in image.shape[:2])
    return Sample(padded(_bilinear(image, (rows, columns)), *size, fill), truth, size, (rows, columns))


def whole(image: Bytes, truth: Bytes, size: Size, fill: Bytes) -> Sample:
    """mmsegmentation's own: the whole picture at scale (4 side, side), where side is the model's shorter; no padding.

    New sides are rounded, as mmcv.rescale_size does it; the logits are resized to the truth's size, as
    BaseSegmentor.postprocess_result does it.
    """
    side = min(size)
    scale = min(_LONGEST * side / max(image.shape[:2]), side / min(image.shape[:2]))
    rows, columns = (max(1, int(length * scale + 0.5)) for length in image.shape[:2])
    return Sample(_bilinear(image, (rows, columns)), truth, _size(truth), _size(truth))


PROTOCOLS: Mapping[str, Callable[[Bytes, Bytes, Size, Bytes], Sample]] = {"crop": crop, "pad": pad, "whole": whole}


def _short_side_at(size: Size, side: int) -> Size:
    short, long = sorted(size)
    wanted = side, side * long // short
    if wanted[1] > _LONGEST * side:
        wanted = max(1, _LONGEST * side * short // long), _LONGEST * side
    return wanted if size[0] <= size[1] else (wanted[1], wanted[0])


def _size(array: Bytes) -> Size:
    return array.shape[0], array.shape[1]


def _bilinear(image: Bytes, size: Size) -> Bytes:
    import cv2

    rows, columns = size
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
