"""The images that models are compared on: a sheet of photographs and drawn tiles, and the card's data.

They are the same in every run. One sheet shows as much as many images: each pixel of a label map is a comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import Input, ModelCard
from pspnet_convert.files import printable_name
from pspnet_convert.runtimes.images import DATASET_SUFFIXES, RGB, SAMPLES, fit, free_name, read_image, to_bgr
from pspnet_convert.runtimes.input_form import ImageShape, batch_sizes

_FROM_DATASET = 4  # images
_COLUMNS = 3


@dataclass(frozen=True)
class VerificationInput:
    """`image` is uint8 BGR [H, W, 3], at the model's size."""

    name: str
    image: RGB


def picture_files(card: ModelCard, extra: Sequence[Path] = ()) -> list[Path]:
    """The files that `verification_inputs` reads."""
    return [*_photographs(), *_from_dataset(card), *extra]


def verification_inputs(card: ModelCard, shape: ImageShape, extra: Sequence[Path] = ()) -> list[VerificationInput]:
    """The sheet, a few images of the card's data set if any, and `extra`. ImageError for a file that is no image.

    For a model with several slots there is one sheet for each slot, each shifted differently, so that swapped slots
    show.
    """
    batch, _, height, width = shape
    images = {"sheet": sheet(height, width, card.input)}
    slots = sum(batch_sizes(batch))
    for slot in range(1, slots):
        images[f"sheet-{slot + 1}"] = np.roll(images["sheet"], (slot, slot * width // slots), axis=(0, 1))
    taken = set(images)
    for path in [*_from_dataset(card), *extra]:
        images[free_name(printable_name(path.name), taken)] = fit(read_image(path), height, width, card.input).image
    return [VerificationInput(name, to_bgr(image)) for name, image in images.items()]


def sheet(height: int, width: int, card_input: Input) -> RGB:
    """Two rows of tiles: photographs above; below, images drawn to show faults."""
    photographs = [read_image(path) for path in _photographs()]
    rows, columns = (np.linspace(0, side, count + 1).astype(int) for side, count in ((height, 2), (width, _COLUMNS)))
    canvas = np.empty((height, width, 3), np.uint8)
    for column, photograph in enumerate(photographs):
        left, right = columns[column : column + 2]
        canvas[: rows[1], left:right] = fit(photograph, rows[1], right - left, card_input).image
        canvas[rows[1] :, left:right] = _DRAWN[column](height - rows[1], right - left)
    return canvas


def drawn_logits(classes: int, height: int, width: int) -> NDArray[np.float32]:
    """Logits [classes, height, width] that show a wrong argmax.

    Each class is the largest at some pixels: alone, in a tie with an earlier or later class, or by the smallest step
    of float32. At some pixels all classes tie.
    """
    pixel = np.arange(height * width).reshape(height, width)
    first = pixel % classes
    second = (first + 1 + pixel // classes % (classes - 1)) % classes
    kind = pixel // (classes * (classes - 1)) % 4
    runner_up = np.choose(kind, [0.5, 1, np.nextafter(np.float32(1), np.float32(0)), 0])
    logits = np.zeros((classes, height, width), np.float32)
    np.put_along_axis(logits, second[None], runner_up[None], axis=0)
    np.put_along_axis(logits, first[None], np.where(kind == 3, 0, 1)[None], axis=0)
    return logits


def _patches(height: int, width: int) -> RGB:
    """Saturated colours: show faults in channel order, mean and scale."""
    rows, columns = np.mgrid[0:height, 0:width]
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 0, 0], [255, 255, 255]], np.uint8)
    return colours[(rows * 2 // height) * 3 + columns * 3 // width]


def _ramps(height: int, width: int) -> RGB:
    """Red and green gradients over blue checks: show near-ties, and faults in mean and scale."""
    rows, columns = np.mgrid[0:height, 0:width]
    checks = (rows // 8 + columns // 8) % 2 * 255
    return np.stack([columns * 255 // width, rows * 255 // height, checks], axis=-1).astype(np.uint8)


def _edges(height: int, width: int) -> RGB:
    """Rings and diagonals with sharp edges: show misaligned resizing, flips and transposition."""
    rows, columns = np.mgrid[0:height, 0:width]
    rings = np.hypot(rows - height / 3, columns - width / 4).astype(int) // 6 % 2
    diagonals = (rows + 2 * columns) // 11 % 2
    return np.stack([rings, rings ^ diagonals, diagonals], axis=-1).astype(np.uint8) * 255


_DRAWN = (_patches, _ramps, _edges)


def _photographs() -> list[Path]:
    return sorted(SAMPLES.glob("*.jpg"))[:_COLUMNS]


def _from_dataset(card: ModelCard) -> list[Path]:
    if card.dataset is None:
        return []
    images = (card.folder / card.dataset / "JPEGImages").glob("*")
    return sorted(path for path in images if path.suffix.lower() in DATASET_SUFFIXES)[:_FROM_DATASET]
