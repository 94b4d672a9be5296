"""The protocols of published accuracy figures: how an image is prepared, and which of its pixels count.

`crop` and `pad` are what Open Model Zoo's accuracy_checker does with its two configurations of pspnet-pytorch: the one
of openvino-dev up to 2021.4 (70.6 %), and the one since 2022.1 (70.1 %). Images are resized by OpenCV, label maps by
Pillow. scripts/check_omz.py compares the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pspnet_convert.cards.card import Input, ModelCard
from pspnet_convert.commands.evaluate.mmseg_protocol import open_mmseg
from pspnet_convert.commands.evaluate.samples import Loaded, Sample
from pspnet_convert.runtimes.images import Size, mean_pixel, padded, read_bgr, resized_labels
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.merging import Bytes, OneLabelMap
from pspnet_convert.runtimes.model_images import ModelImages

_LONGEST = 4  # the most that the long side may be, in model sides: 2048 for 512
Load = Callable[[Path], Loaded]


def open_protocol(protocol: str, card: ModelCard, size: Size) -> Load:
    """A function that reads a picture as the protocol does, for a model of `size`. It raises ImageError.

    CardError if the card does not say how the protocol goes.
    """
    if protocol == "mmseg":
        return open_mmseg(card)
    prepare, files = {"crop": crop, "pad": pad}[protocol], ModelImages.of(card)

    def load(path: Path) -> Loaded:
        image = read_bgr(path) if files.is_picture(path) else files.reversed_colours(files.read(path))
        return Loaded(_size(image), lambda truth: prepare(image, truth, size, card.input))

    return load


def crop(image: Image, truth: Bytes, size: Size, card_input: Input) -> Sample:
    """Open Model Zoo's: resize the short side to the model's side, then crop the centre; the truth likewise.

    Sides are rounded down. If the model is not square, its longer side is taken. A picture more than four times as
    long as wide would not fill the model's input: the accuracy_checker stops there with an error. Here its long side
    becomes four times the model's, and it is padded as in `pad`.
    """
    rows, columns = _short_side_at(_size(image), max(size))
    top, left = max(0, rows - size[0]) // 2, max(0, columns - size[1]) // 2
    window = slice(top, top + size[0]), slice(left, left + size[1])
    shown = _bilinear(image, (rows, columns))[window]
    return _one_image(_filled(shown, size, card_input), resized_labels(truth, rows, columns)[window], _size(shown))


def pad(image: Image, truth: Bytes, size: Size, card_input: Input) -> Sample:
    """Open Model Zoo's: resize to fit the model's size, aspect kept; pad right and below with the mean colour.

    The prediction is cropped to the picture and resized to the truth's size (nearest). Sides are rounded down, by the
    same float64 arithmetic as the accuracy_checker's: 512 / 98 * 98 gives 511. It has no figure for a picture of which
    a side would become 0; here it becomes 1.
    """
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    rows, columns = (max(1, int(scale * side)) for side in image.shape[:2])
    return _one_image(_filled(_bilinear(image, (rows, columns)), size, card_input), truth, (rows, columns))


def _one_image(image: Image, truth: Bytes, picture: Size) -> Sample:
    size = _size(truth)
    return Sample([image], truth, lambda classes, align: OneLabelMap(picture, size))


def _short_side_at(size: Size, side: int) -> Size:
    short, long = sorted(size)
    wanted = side, side * long // short
    if wanted[1] > _LONGEST * side:
        wanted = max(1, _LONGEST * side * short // long), _LONGEST * side
    return wanted if size[0] <= size[1] else (wanted[1], wanted[0])


def _filled(image: Image, size: Size, card_input: Input) -> Image:
    """The padding of colours is the mean in RGB order, though the image is BGR: so the accuracy_checker writes it."""
    return image if _size(image) == size else padded(image, size, mean_pixel(card_input).astype(np.float32))


def _size(array: Image) -> Size:
    return array.shape[0], array.shape[1]


def _bilinear(image: Image, size: Size) -> Image:
    import cv2

    rows, columns = size
    resized = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR).astype(image.dtype, copy=False)
    return resized[:, :, None] if resized.ndim == 2 else resized  # OpenCV leaves out a single channel
