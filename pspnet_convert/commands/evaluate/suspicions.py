"""Say what a result looks like when annotations and model do not seem to mean the same by a number."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.evaluate.miou import Confusion, areas, ignored_share, mean_iou

_LOW_IOU = 10  # per cent
_HIGH_SHARE = 0.5
_SHOWN = 6  # pairs of classes


def suspicions(confusions: Mapping[str, Confusion], names: Sequence[str]) -> list[str]:
    """What is probably wrong with the annotations' meaning; empty if nothing looks so. `names`: of the classes."""
    first = next(iter(confusions.values()))
    ignored = ignored_share(first)
    found = []
    if ignored > _HIGH_SHARE:
        found.append(
            f"{ignored:.0%} of the annotated pixels are ignored. "
            "If they should count, see --zero-label, --ignore-index and --label-map."
        )
    annotated = np.flatnonzero(first[: len(names)].sum(axis=1))
    if len(annotated) == 1:
        found.append(f"All annotated pixels are {names[annotated[0]]}. Are these the right files?")
    pairs = [_pairs(matrix) for matrix in confusions.values()]
    if all(pairs) and len({tuple(one) for one in pairs}) == 1:
        found.append(_explained(pairs[0], names))
    return found


def masks(images: Collection[str], count: int) -> list[str]:
    """What annotations of 0 and 255 alone may be, if there are any; `count`: of all images."""
    if not images:
        return []
    example = min(images) + (", ..." if len(images) > 1 else "")
    return [
        f"{len(images)} of {count} annotations ({example}) have 0 and 255 alone, and 255 is ignored. "
        "If it is a class there, see --label-map; if not, say --ignore-index 255."
    ]


def _pairs(matrix: Confusion) -> list[tuple[int, int]]:
    """Annotated and predicted classes that go together, if the mean IoU is low but another numbering fits well.

    Each annotated class is paired with at most one predicted class, and each of these is paired once.
    """
    if not mean_iou(areas(matrix)) < _LOW_IOU:
        return []
    classes = matrix.shape[1]
    counts = matrix[:classes]
    pairs = _matched(counts)
    if not any(annotated != predicted for annotated, predicted in pairs):
        return []
    # A model that gives one class everywhere would fit the most frequent annotation: that pair proves nothing.
    rows = counts.sum(axis=1)
    others = [pair for pair in pairs if pair[0] != int(rows.argmax())]
    left = rows.sum() - rows.max()
    fitting = sum(int(counts[pair]) for pair in others)
    return sorted(pairs) if left and fitting > _HIGH_SHARE * left else []


def _matched(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    free = counts.copy()
    while free.max() > 0:
        row, column = (int(place) for place in np.unravel_index(free.argmax(), free.shape))
        pairs.append((row, column))
        free[row], free[:, column] = 0, 0
    return pairs


def _explained(pairs: Sequence[tuple[int, int]], names: Sequence[str]) -> str:
    shifts = {predicted - annotated for annotated, predicted in pairs}
    shown = ", ".join(f"{names[annotated]} -> {names[predicted]}" for annotated, predicted in pairs[:_SHOWN])
    more = ", ..." if len(pairs) > _SHOWN else ""
    start = "The models find the annotated shapes, but as other classes"
    if shifts == {1}:
        return f"{start}, one further on ({shown}{more}): 0 seems to be a class here. Try --zero-label class."
    if shifts == {-1}:
        return f"{start}, one before ({shown}{more}): classes seem to count from 1. Try --zero-label ignored."
    return f"{start} ({shown}{more}): the annotations seem to have another order. See --label-map and --labels."
