"""The images that models are compared on: a sheet of photographs and drawn tiles, and the card's data.

They are the same in every run. One sheet shows as much as many images: each pixel of a label map is a comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.card import Input, ModelCard
from pspnet_convert.files import printable_name
from pspnet_convert.runtimes.images import DATASET_SUFFIXES, RGB, SAMPLES, fit, free_name, read_image
from pspnet_convert.runtimes.input_form import PLAIN, Image, ImageShape, InputForm, batch_sizes
from pspnet_convert.runtimes.model_images import ModelImages
from pspnet_convert.runtimes.value_range import ranges_of_ir

_FROM_DATASET = 4  # images
_COLUMNS = 3


@dataclass(frozen=True)
class VerificationInput:
    """`image` is [H, W, C] at the model's size: colours as BGR, uint8."""

    name: str
    image: Image


def picture_files(card: ModelCard, extra: Sequence[Path] = ()) -> list[Path]:
    """The files that `verification_inputs` reads."""
    return [*_photographs(), *_from_dataset(card), *extra]


def verification_inputs(
    card: ModelCard, shape: ImageShape, extra: Sequence[Path] = (), form: InputForm = PLAIN
) -> list[VerificationInput]:
    """The sheet, a few images of the card's data set if any, and `extra`. ImageError for a file that does not fit.

    A model of other images than plain pictures gets a sheet in its own values, those that `form` holds.

    For a model with several slots there is one sheet for each slot, each shifted differently, so that swapped slots
    show.
    """
    batch, _, height, width = shape
    files = ModelImages.of(card)
    images: dict[str, Image] = {}
    if card.input.is_plain_color:
        images["sheet"] = files.reversed_colours(sheet(height, width, card.input))
    else:
        images["sheet"] = own_sheet(height, width, card.input, form)
    slots = sum(batch_sizes(batch))
    for slot in range(1, slots):
        images[f"sheet-{slot + 1}"] = np.roll(images["sheet"], (slot, slot * width // slots), axis=(0, 1))
    taken = set(images)
    for path in [*_from_dataset(card), *extra]:
        images[free_name(printable_name(path.name), taken)] = files.fitted(path, height, width)
    return [VerificationInput(name, image) for name, image in images.items()]


def sheet(height: int, width: int, card_input: Input) -> RGB:
    """Two rows of tiles: photographs above; below, images drawn to show faults."""
    photographs = [read_image(path) for path in _photographs()]
    middle, spans = _tiles(height, width)
    canvas = np.empty((height, width, 3), np.uint8)
    for photograph, draw, (left, right) in zip(photographs, _DRAWN, spans, strict=True):
        canvas[:middle, left:right] = fit(photograph, middle, right - left, card_input).image
        canvas[middle:, left:right] = draw(height - middle, right - left)
    return canvas


def _tiles(height: int, width: int) -> tuple[int, Sequence[tuple[int, int]]]:
    """The row at which a sheet's lower tiles begin; of each tile in a row, its first column and the one after it."""
    _, middle, _ = np.linspace(0, height, 3).astype(int).tolist()
    columns = np.linspace(0, width, _COLUMNS + 1).astype(int).tolist()
    return middle, list(pairwise(columns))


def own_sheet(height: int, width: int, card_input: Input, form: InputForm = PLAIN) -> Image:
    """The sheet of a model of other images, as an IR takes it: two rows of tiles, photographs above, drawn ones below.

    Each channel has patterns of its own, over its range of values (value_range.py), so that swapped channels show.
    """
    photographs = [read_image(path) for path in _photographs()]
    shares = np.stack([_channel(channel, height, width, photographs) for channel in range(card_input.channels)], -1)
    low, high = np.array(ranges_of_ir(card_input, form)).T
    values = low + (high - low) * shares
    return (values if form.limits is None else np.rint(values)).astype(form.dtype)


def _channel(number: int, height: int, width: int, photographs: Sequence[RGB]) -> NDArray[np.float64]:
    """The sheet's channel `number`, in shares of its range, 0..1."""
    middle, spans = _tiles(height, width)
    canvas = np.empty((height, width))
    for photograph, pattern, (left, right) in zip(photographs, _PATTERNS, spans, strict=True):
        across = right - left
        picture = Pillow.fromarray(photograph[:, :, number % 3]).resize((across, middle), Pillow.Resampling.BILINEAR)
        # The same plane of a photograph serves several channels: moved and mirrored, it is another texture.
        texture = np.roll(np.asarray(picture)[:: (-1) ** (number // 3)], 7 * (number // 3), axis=(0, 1))
        canvas[:middle, left:right] = texture / 255
        canvas[middle:, left:right] = pattern(number, height - middle, across)
    return canvas


def _levels(number: int, height: int, width: int) -> NDArray[np.float64]:
    """Patches of many levels, which differ from channel to channel: a sequence that fills 0..1 evenly."""
    rows, columns = np.mgrid[0:height, 0:width]
    patch = (rows * 4 // height) * 4 + columns * 4 // width + 1
    step: NDArray[np.float64] = (patch * (number + 1) * 0.6180339887498949 + number * 0.7548776662466927) % 1
    return step


def _slope(number: int, height: int, width: int) -> NDArray[np.float64]:
    """A gradient in a direction of the channel's own: shows near-ties, and faults in mean and scale."""
    rows, columns = np.mgrid[0:height, 0:width]
    angle = 2.399963229728653 * (number + 1)  # the golden angle: no two of them are near each other
    along = rows / height * np.sin(angle) + columns / width * np.cos(angle)
    slope: NDArray[np.float64] = (along - along.min()) / max(np.ptp(along), 1e-9)
    return slope


def _stripes(number: int, height: int, width: int) -> NDArray[np.float64]:
    """Rings and diagonals with sharp edges, of a width of the channel's own."""
    rows, columns = np.mgrid[0:height, 0:width]
    rings = np.hypot(rows - height / 3, columns - width / 4).astype(int) // (4 + number % 5) % 2
    diagonals = (rows * (1 + number % 3) + columns * (1 + number // 3 % 3) + number) // 9 % 2
    stripes: NDArray[np.float64] = (rings ^ diagonals).astype(float)
    return stripes


_PATTERNS = (_levels, _slope, _stripes)


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


def drawn_scores(threshold: float, height: int, width: int) -> NDArray[np.float32]:
    """Logits [2, height, width] of a binary head: `threshold`, and scores at it, next to it and far from it."""
    at = np.float32(threshold)
    above, below = np.nextafter(at, np.float32(np.inf)), np.nextafter(at, np.float32(-np.inf))
    scores = np.array([at, above, below, at + 1, at - 1], np.float32)
    pixel = np.arange(height * width).reshape(height, width)
    return np.stack([np.full((height, width), at), scores[pixel % len(scores)]])


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
