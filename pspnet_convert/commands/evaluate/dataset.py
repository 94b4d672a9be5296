"""Read a data set in Pascal VOC's layout: the list of a split, its images, its annotations as class numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.card import Colour, ModelCard
from pspnet_convert.commands.evaluate.miou import VOID
from pspnet_convert.errors import DatasetError, ImageError
from pspnet_convert.runtimes.images import DATASET_SUFFIXES, open_picture, read_image, to_bgr

# Pascal VOC's colour for the outlines of objects; these pixels do not count.
VOID_COLOUR: Colour = (224, 224, 192)


@dataclass(frozen=True)
class Entry:
    """One image of a split, and the paths that its two files should have."""

    name: str
    image: Path
    annotation: Path


@dataclass(frozen=True)
class Annotated:
    """`image`: uint8 BGR [H, W, 3]. `truth`: uint8 [H, W], class numbers or VOID.

    `unknown`: the number of pixels with a number or colour of no class of the card; in `truth` they are VOID.
    """

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    unknown: int


def read_split(folder: Path, split: str) -> list[Entry]:
    """The entries of `ImageSets/Segmentation/<split>.txt`, in its order; DatasetError if it is not a list of names."""
    path = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise DatasetError(
            f"{path}: the list of images cannot be read: {reason}", "Give --dataset a folder in Pascal VOC's layout."
        ) from error
    if not names:
        raise DatasetError(f"{path}: lists no image")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DatasetError(f"{path}: lists {twice!r} more than once", "Each image counts once.")
    return [_entry(folder, name) for name in names]


def _entry(folder: Path, name: str) -> Entry:
    candidates = [folder / "JPEGImages" / f"{name}{suffix}" for suffix in DATASET_SUFFIXES]
    image = next((path for path in candidates if path.is_file()), candidates[0])
    return Entry(name, image, folder / "SegmentationClass" / f"{name}.png")


def read_entry(entry: Entry, card: ModelCard) -> Annotated:
    """Read both files; DatasetError or ImageError if one is missing, cannot be read, or does not match the other."""
    for path, kind in ((entry.image, "image"), (entry.annotation, "annotation")):
        if not path.is_file():
            raise DatasetError(f"{path}: there is no such {kind}", "Remove it from the list, or use --skip-bad.")
    image = to_bgr(read_image(entry.image))
    truth, unknown = read_annotation(entry.annotation, card)
    if truth.shape != image.shape[:2]:
        raise DatasetError(
            f"{entry.annotation}: is {_size(truth)}, but its image is {_size(image)} (rotated as its EXIF says)",
            "Make the annotation again, or use --skip-bad.",
        )
    return Annotated(image, truth, unknown)


def read_annotation(path: Path, card: ModelCard) -> tuple[NDArray[np.uint8], int]:
    """Class numbers (uint8 [H, W], VOID for what does not count), and the number of pixels of no class.

    An RGB picture is read by colour. So is a palette picture if all its colours are the card's, because another program
    may have ordered them differently. Any other is read by number. 255 is always VOID.
    """
    picture = open_picture(path)
    if picture.mode in ("L", "1", "I", "I;16"):
        return _by_number(np.asarray(picture), card)
    if picture.mode == "P":
        return _by_palette(picture, card)
    if picture.mode in ("RGB", "RGBA"):
        return _by_colour(path, np.asarray(picture.convert("RGB")), card)
    raise ImageError(f"{path}: has mode {picture.mode}, which no annotation has", "Save it as a palette PNG.")


def _by_number(numbers: NDArray[np.generic], card: ModelCard) -> tuple[NDArray[np.uint8], int]:
    values = numbers.astype(np.int64)
    known = (values >= 0) & (values < len(card.classes))
    return np.where(known, values, VOID).astype(np.uint8), int((~known & (values != VOID)).sum())


def _by_palette(picture: Pillow.Image, card: ModelCard) -> tuple[NDArray[np.uint8], int]:
    numbers = np.asarray(picture)
    flat = picture.getpalette() or []
    palette = dict(enumerate(zip(flat[::3], flat[1::3], flat[2::3])))
    classes = _classes_by_colour(card)
    used = [number for number in np.unique(numbers).tolist() if number != VOID]
    found = [classes.get(palette[number]) if number in palette else None for number in used]
    # Two numbers with one colour: the palette was only filled up, mostly with black, and says nothing of the classes.
    if None in found or len(set(found)) < len(found):
        return _by_number(numbers, card)
    table = np.full(256, VOID, np.uint8)
    table[used] = np.array(found, np.uint8)
    return table[numbers], 0


def _by_colour(path: Path, pixels: NDArray[np.uint8], card: ModelCard) -> tuple[NDArray[np.uint8], int]:
    packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    truth = np.full(packed.shape, VOID, np.uint8)
    known = np.zeros(packed.shape, bool)
    for (red, green, blue), number in _classes_by_colour(card).items():
        of_class = packed == (red << 16 | green << 8 | blue)
        truth[of_class] = number
        known |= of_class
    if not known.any():
        raise DatasetError(f"{path}: none of its colours is in the card's palette", "Is it from another data set?")
    return truth, int((~known).sum())


def _classes_by_colour(card: ModelCard) -> Mapping[Colour, int]:
    return {VOID_COLOUR: VOID, **{colour: number for number, colour in reversed(list(enumerate(card.palette)))}}


def _size(array: NDArray[np.uint8]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
