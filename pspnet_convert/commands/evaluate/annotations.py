"""Read an annotation as class numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.annotations import IGNORED
from pspnet_convert.commands.evaluate.entries import Entry
from pspnet_convert.commands.evaluate.meaning import UNKNOWN, VOID_COLOUR, Meaning
from pspnet_convert.commands.evaluate.miou import NO_CLASS
from pspnet_convert.commands.evaluate.unknown_values import lossy, mask_of_two, unknown_colours, unknown_numbers
from pspnet_convert.errors import DatasetError, ImageError
from pspnet_convert.runtimes.images import open_as_stored

_FIRST = 8  # files that are looked at before the work
_WIDE = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_INDEXED = ("P", "L", "1", *_WIDE)
_COLOURED = ("RGB", "RGBA")


@dataclass(frozen=True)
class Truth:
    """`numbers`: uint8 [H, W], class numbers, IGNORED and NO_CLASS.

    `unknown`: how many pixels have a value that is neither a class nor ignored. `is_mask`: whether the values are 0, a
    class, and 255, ignored, without the user having said so: 255 may be a class.
    """

    numbers: NDArray[np.uint8]
    unknown: int
    is_mask: bool = False


def read_annotation(path: Path, meaning: Meaning) -> Truth:
    """An annotation's class numbers.

    DatasetError if it cannot be read, is a JPEG where the card's are not, or has a value that is neither a class nor
    ignored, unless `meaning.ignore_unknown`. An EXIF orientation is left alone, as mmsegmentation does.
    """
    picture = _open(path)
    if _is_jpeg(path) and not meaning.takes_jpeg:
        raise lossy(path)
    if picture.mode in _INDEXED and meaning.labels != "colour":
        return _by_index(path, np.asarray(picture), meaning)
    if picture.mode in _COLOURED and meaning.labels == "index":
        return _by_index(path, _grey(path, np.asarray(picture.convert("RGB")), meaning), meaning)
    if picture.mode in _WIDE:
        raise DatasetError(f"{path}: has 16 bits, which hold no colours", "Leave out --labels colour.")
    return _by_colour(path, np.asarray(picture.convert("RGB")), meaning)


def check_first(entries: Sequence[Entry], meaning: Meaning) -> None:
    """Look at the first annotations that are there and can be read, before the work.

    DatasetError if they have 0 and 255 alone, and the user has not said what 255 is.
    """
    if meaning.knows_255 or meaning.labels == "colour":
        return
    there = [entry.annotation for entry in entries[: 4 * _FIRST] if entry.annotation.is_file()][:_FIRST]
    found: set[int] = set()
    for path in there:
        try:
            picture = _open(path)
        except DatasetError:  # reported when its turn comes
            continue
        if picture.mode in _COLOURED and meaning.labels != "index":
            return
        found |= set(np.unique(np.asarray(picture)).tolist())
        if found - {0, 255}:
            return
    if found == {0, 255}:
        raise mask_of_two(there[0])


def _open(path: Path) -> Pillow.Image:
    try:
        picture = open_as_stored(path)
    except ImageError as error:
        is_empty = path.is_file() and not path.stat().st_size
        what = f"{path}: is empty" if is_empty else error.what
        raise DatasetError(what, "Make the annotation again, or use --skip-bad.") from error
    if picture.mode not in (*_INDEXED, *_COLOURED):
        raise DatasetError(f"{path}: has mode {picture.mode}, which no annotation has", "Save it as a palette PNG.")
    return picture


def _is_jpeg(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(3) == b"\xff\xd8\xff"


def _by_index(path: Path, values: NDArray[np.generic], meaning: Meaning) -> Truth:
    table = np.array(meaning.table)
    narrow = values.astype(np.uint8)  # modulo 256, as mmsegmentation takes them
    is_unknown = (table == UNKNOWN)[narrow]
    if values.dtype.itemsize > 1:
        is_unknown |= values != narrow
    unknown = int(np.count_nonzero(is_unknown))
    if unknown and not meaning.ignore_unknown:
        those = np.unique(values[is_unknown]).tolist()
        raise unknown_numbers(path, np.unique(values).astype(int).tolist(), those, meaning)
    numbers = np.where(table == UNKNOWN, NO_CLASS, table).astype(np.uint8)[narrow]
    return Truth(numbers, unknown, not unknown and not meaning.knows_255 and _is_mask(narrow, table))


def _is_mask(values: NDArray[np.uint8], table: NDArray[np.integer[Any]]) -> bool:
    counts = np.bincount(values.ravel(), minlength=256)
    return bool(counts[[0, 255]].all() and not counts[1:255].any() and table[0] < NO_CLASS and table[255] == IGNORED)


def _grey(path: Path, pixels: NDArray[np.uint8], meaning: Meaning) -> NDArray[np.uint8]:
    """The one channel that an RGB picture of indices has."""
    if (pixels != pixels[:, :, :1]).any():
        option = "--label-map" if meaning.label_map is not None else "--labels index"
        raise DatasetError(
            f"{path}: has colours, where {option} needs indices: red, green and blue differ", f"Leave out {option}."
        )
    return pixels[:, :, 0]


def _by_colour(path: Path, pixels: NDArray[np.uint8], meaning: Meaning) -> Truth:
    """A colour of two classes is unknown: nobody can say which it is."""
    packed = pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    once = {one: number for number, one in enumerate(meaning.palette) if meaning.palette.count(one) == 1}
    numbers = {} if VOID_COLOUR in meaning.palette else {VOID_COLOUR: IGNORED}
    numbers |= {one: IGNORED if number == meaning.ignore_index else number for one, number in once.items()}
    by_value = sorted((red << 16 | green << 8 | blue, number) for (red, green, blue), number in numbers.items())
    colours, classes = np.array(by_value).T
    nearest = np.minimum(np.searchsorted(colours, packed), len(colours) - 1)
    is_unknown = colours[nearest] != packed
    unknown = int(np.count_nonzero(is_unknown))
    if unknown and not meaning.ignore_unknown:
        raise unknown_colours(path, pixels, is_unknown, meaning)
    return Truth(np.where(is_unknown, NO_CLASS, classes[nearest]).astype(np.uint8), unknown)
