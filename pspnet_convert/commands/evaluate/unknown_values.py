"""Say why an annotation has values that are neither classes nor ignored, and which option helps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.evaluate.meaning import Meaning
from pspnet_convert.errors import DatasetError
from pspnet_convert.forms import Colour

_GO_ON = "--ignore-unknown goes on and counts such pixels."
_SHOWN = 5  # values in a message


def unknown_numbers(path: Path, values: Sequence[int], unknown: Sequence[int], meaning: Meaning) -> DatasetError:
    """The error for an annotation read by index. `values`: all that it has; `unknown`: those of no meaning."""
    reason, advice = _of_numbers(path, values, unknown, meaning)
    word = "value" if len(unknown) == 1 else "values"
    return _error(path, word, [str(value) for value in unknown], reason, advice)


def unknown_colours(
    path: Path, pixels: NDArray[np.uint8], unknown: NDArray[np.bool_], meaning: Meaning
) -> DatasetError:
    """The error for an annotation read by colour. `pixels`: RGB [H, W, 3]; `unknown`: [H, W], those of no class."""
    found = [(int(r), int(g), int(b)) for r, g, b in np.unique(pixels[unknown].reshape(-1, 3), axis=0)]
    reason, advice = _of_colours(path, pixels, found, bool(unknown.all()), meaning)
    if unknown.all() and not reason:
        return DatasetError(
            f"{path}: none of its colours is in the card's palette: {_some([str(colour) for colour in found])}",
            f"{advice or 'Is it from another data set?'} {_GO_ON}",
        )
    return _error(path, "colour" if len(found) == 1 else "colours", [str(one) for one in found], reason, advice)


def lossy(path: Path) -> DatasetError:
    """The error for a JPEG: its values may all be classes, and yet not those that were annotated."""
    return DatasetError(
        f"{path}: is a JPEG, which changes values and colours",
        "Annotations need a format without loss, such as PNG: make them again from what they were before.",
    )


def mask_of_two(path: Path) -> DatasetError:
    """The error for files of 0 and 255 alone: 255 is normally ignored, but here it is likely a class."""
    return DatasetError(
        f"{path}: looks like a mask of 0 and 255, and so do the other files looked at. 255 means ignored",
        "If 255 is a class, give --label-map a file with {0: 0, 255: 1}; if it is ignored, say --ignore-index 255.",
    )


def _error(path: Path, word: str, found: Sequence[str], reason: str, advice: str) -> DatasetError:
    text = f"{path}: has the {word} {_some(found)}: neither a class nor ignored"
    return DatasetError(text + (f". {reason}" if reason else ""), f"{advice} {_GO_ON}".strip())


def _some(found: Sequence[str]) -> str:
    more = len(found) - _SHOWN
    return ", ".join(found[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _of_numbers(path: Path, values: Sequence[int], unknown: Sequence[int], meaning: Meaning) -> tuple[str, str]:
    """The likely reason, and what to do."""
    classes = len(meaning.classes)
    first = 1 if meaning.reads == "zero ignored" else 0
    known = f"The card's classes are {first} to {first + classes - 1}"
    if min(values) < 0 or max(values) > 255:
        return (
            "It has 16 bits, as files of instances have",
            "Give files of 8 bits; mmsegmentation takes such values modulo 256.",
        )
    if meaning.label_map is not None:
        return f"{meaning.label_map} does not list {'it' if len(unknown) == 1 else 'them'}", "Add it there."
    if meaning.reads == "index" and unknown == [classes]:
        return (
            f"It looks as if the {classes} classes were counted from 1",
            "If so, say --zero-label ignored.",
        )
    highest = 33 if classes < 34 else 182  # of Cityscapes' label ids; of COCO-Stuff's
    if meaning.train_ids and meaning.reads == "index" and max(unknown) <= highest:
        return (
            "These look like label ids instead of train ids",
            "Cityscapes' are mapped if the files' names end with _gtFine_labelIds.png; for others make train ids, or "
            "say what each number is with --label-map.",
        )
    if classes == 2 and len(values) == 2 and values[0] == 0:
        return (
            f"It looks like a mask of 0 and {values[1]}",
            f"If so, give --label-map a file with {{0: 0, {values[1]}: 1}}.",
        )
    if len(unknown) > 3:
        return f"{known}: this looks like another data set", "Say what each number is with --label-map."
    return known, "Say what it is with --label-map, or that it is ignored with --ignore-index."


def _of_colours(
    path: Path, pixels: NDArray[np.uint8], unknown: Sequence[Colour], is_all: bool, meaning: Meaning
) -> tuple[str, str]:
    twice = next((colour for colour in unknown if meaning.palette.count(colour) > 1), None)
    if twice is not None:
        names = [name for name, colour in zip(meaning.classes, meaning.palette) if colour == twice]
        return f"The card has {twice} for {' and '.join(names)}", "Give annotations by index."
    if meaning.labels == "colour":
        return "", "Leave out --labels colour if the numbers are what counts." if is_all else ""
    is_grey = bool((pixels == pixels[:, :, :1]).all())
    if is_grey and (255, 255, 255) in unknown and set(np.unique(pixels).tolist()) <= {0, 255}:
        return (
            "It looks like a mask of 0 and 255, saved in RGB",
            "If so, give --label-map a file with {0: 0, 255: 1}.",
        )
    if is_grey:
        return "It looks like an index, saved in RGB", "If so, say --labels index."
    if np.count_nonzero(pixels.any(axis=(0, 1))) == 1:
        return "It looks like an index, in one channel of RGB", "Save that channel as a grey PNG."
    if len(unknown) > 3 * len(meaning.classes):
        return "They look blended, as by smooth resizing", "Make the annotations again, without it."
    return "", ""
