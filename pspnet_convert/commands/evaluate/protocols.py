"""The protocols of published accuracy figures: how an image is prepared, and which of its pixels count.

Images are resized by OpenCV, as for the published figures (Pillow's bilinear filter differs), label maps by Pillow.
Pillow reads the files: it decodes JPEG and PNG to the same bytes as OpenCV.
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
_LONGEST = 4  # the most that the long side may be, in model sides: 2048 for 512


@dataclass(frozen=True)
class Sample:
    """What a model is given, and what its label map is compared with.

    `image`: uint8 BGR [h, w, 3]. `logits_at`: the size that logits are resized to (bilinear) before the argmax.
    `picture`: the rows and columns of the label map, from the top left, that the picture covers; only they are scored,
    against `truth`, uint8 [H, W].
    """

    image: Bytes
    truth: Bytes
    logits_at: Size
    picture: Size

    def scored(self, labels: NDArray[np.integer[Any]]) -> Bytes:
        """The scored part of a label map [*logits_at], resized to the truth's size."""
        rows, columns = self.picture
        part = labels[:rows, :columns]
        return part.astype(np.uint8) if part.shape == self.truth.shape else resized_labels(part, *self.truth.shape)


def crop(image: Bytes, truth: Bytes, size: Size, fill: Bytes) -> Sample:
    """Open Model Zoo's: resize the short side to the model's side, then crop the centre; the truth likewise.

    The long side becomes at most four times the model's side. A picture longer than that does not fill the model's
    input and is padded as in `pad`. Sides are rounded down. If the model is not square, its longer side is taken.
    """
    rows, columns = _short_side_at(_size(image), max(size))
    top, left = max(0, rows - size[0]) // 2, max(0, columns - size[1]) // 2
    window = slice(top, top + size[0]), slice(left, left + size[1])
    shown = _bilinear(image, (rows, columns))[window]
    return Sample(padded(shown, *size, fill), resized_labels(truth, rows, columns)[window], size, _size(shown))


def pad(image: Bytes, truth: Bytes, size: Size, fill: Bytes) -> Sample:
    """Open Model Zoo's: resize to fit the model's size, aspect kept; pad right and below with the mean colour.

    The prediction is cropped to the picture and resized to the truth's size (nearest).
    """
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    rows, columns = (max(1, int(scale * side)) for side in image.shape[:2])
    return Sample(padded(_bilinear(image, (rows, columns)), *size, fill), truth, size, (rows, columns))


def whole(image: Bytes, truth: Bytes, size: Size, fill: Bytes) -> Sample:
    """mmsegmentation's: the whole picture at scale (4 side, side), where side is the model's shorter; no padding.

    Sides are rounded as in mmcv.rescale_size; logits are resized to the truth's size as in
    BaseSegmentor.postprocess_result.
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
