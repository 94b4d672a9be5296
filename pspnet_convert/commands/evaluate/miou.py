"""From label maps to figures: a confusion matrix, and what is read off it.

Matrices are int64 [true class, predicted class], in pixels; that they add up is what evaluation in parts rests on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

VOID = 255
Confusion = NDArray[np.int64]


def confusion(truth: NDArray[np.uint8], labels: NDArray[np.integer[Any]], classes: int) -> Confusion:
    """Count the pixels of two label maps [H, W] by pair of classes; where the truth is VOID they do not count."""
    counted = truth != VOID
    pairs = truth[counted].astype(np.int64) * classes + labels[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def ious(matrix: Confusion) -> NDArray[np.float64]:
    """Intersection over union of each class, per cent; NaN for one that is neither in truth nor prediction."""
    hits = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hits
    return np.divide(100.0 * hits, union, out=np.full(len(matrix), np.nan), where=union > 0)


def mean_iou(matrix: Confusion) -> float:
    """Per cent, over the classes that occur; NaN where no pixel counts."""
    occurring = ious(matrix)[~np.isnan(ious(matrix))]
    return float(occurring.mean()) if occurring.size else float("nan")


def pixel_accuracy(matrix: Confusion) -> float:
    """The share of the counted pixels that are right, per cent; NaN where no pixel counts."""
    return float(100 * np.trace(matrix) / matrix.sum()) if matrix.any() else float("nan")
