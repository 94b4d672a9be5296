"""Count a confusion matrix from label maps, and compute IoU and accuracy from it.

Matrices are int64 [true class, predicted class], in pixels. The sum of two is the matrix of both parts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

VOID = 255
Confusion = NDArray[np.int64]


def confusion(truth: NDArray[np.uint8], labels: NDArray[np.integer[Any]], classes: int) -> Confusion:
    """Count the pixels of two label maps [H, W] by pair of classes, except where the truth is VOID."""
    counted = truth != VOID
    pairs = truth[counted].astype(np.int64) * classes + labels[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def ious(matrix: Confusion) -> NDArray[np.float64]:
    """Each class's intersection over union, in per cent; NaN for a class in neither truth nor prediction."""
    hits = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hits
    return np.divide(100.0 * hits, union, out=np.full(len(matrix), np.nan), where=union > 0)


def mean_iou(matrix: Confusion) -> float:
    """The mean IoU of the classes that occur, in per cent; NaN if no pixel counts."""
    occurring = ious(matrix)[~np.isnan(ious(matrix))]
    return float(occurring.mean()) if occurring.size else float("nan")


def pixel_accuracy(matrix: Confusion) -> float:
    """The share of right pixels among those counted, in per cent; NaN if no pixel counts."""
    return float(100 * np.trace(matrix) / matrix.sum()) if matrix.any() else float("nan")
