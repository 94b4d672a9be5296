"""Count label maps against annotations, and compute IoU, accuracy, Dice and F-score from the counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.annotations import IGNORED

NO_CLASS = 254  # in an annotation: a pixel of no class that is not IGNORED
# Pixels, int64 [classes + 2, classes]: by annotated class and predicted class. The last two rows are NO_CLASS and
# IGNORED. The sum of two is the matrix of both parts.
Confusion = NDArray[np.int64]
Shares = NDArray[np.float64]  # a number for each class in per cent, NaN where it is 0 / 0


def confusion(truth: NDArray[np.uint8], labels: NDArray[np.integer[Any]], classes: int) -> Confusion:
    """Count the pixels of an annotation and a label map [H, W]. A class is less than NO_CLASS."""
    rows = truth.astype(np.int64)
    rows[truth == NO_CLASS] = classes
    rows[truth == IGNORED] = classes + 1
    pairs = (rows * classes + labels).ravel()
    return np.bincount(pairs, minlength=(classes + 2) * classes).reshape(classes + 2, classes)


def ignored_share(matrix: Confusion) -> float:
    """The part of all pixels that is IGNORED, 0..1."""
    return float(matrix[-1].sum() / max(1, matrix.sum()))


@dataclass(frozen=True)
class Areas:
    """Pixels by class, int64 [classes], of what counts: as IoUMetric.intersect_and_union in mmsegmentation."""

    intersection: NDArray[np.int64]
    predicted: NDArray[np.int64]
    annotated: NDArray[np.int64]

    @property
    def union(self) -> NDArray[np.int64]:
        return self.predicted + self.annotated - self.intersection


def areas(matrix: Confusion) -> Areas:
    """By mmsegmentation's rule: IGNORED does not count; what is predicted on NO_CLASS counts as predicted."""
    classes = matrix.shape[1]
    return Areas(np.diag(matrix), matrix[: classes + 1].sum(axis=0), matrix[:classes].sum(axis=1))


def areas_without_void(matrix: Confusion) -> Areas:
    """IGNORED and NO_CLASS do not count."""
    classes = matrix.shape[1]
    return areas(np.vstack([matrix[:classes], np.zeros((2, classes), np.int64)]))


def areas_with_void_as_background(matrix: Confusion) -> Areas:
    """By the rule of Open Model Zoo's accuracy_checker: IGNORED and NO_CLASS are class 0."""
    classes = matrix.shape[1]
    counted = matrix[:classes].copy()
    counted[0] += matrix[classes:].sum(axis=0)
    return areas(np.vstack([counted, np.zeros((2, classes), np.int64)]))


def ious(found: Areas) -> Shares:
    """Each class's intersection over union; NaN for a class in neither annotation nor prediction."""
    return _per_cent(found.intersection, found.union)


def mean_iou(found: Areas) -> float:
    """The mean IoU of the classes that occur, in per cent; NaN if no pixel counts."""
    return _mean(ious(found))


def pixel_accuracy(found: Areas) -> float:
    """The share of right pixels among those annotated with a class, in per cent; NaN if there are none."""
    return float(_per_cent(found.intersection.sum(), found.annotated.sum()))


def class_metrics(found: Areas, metrics: Sequence[str], beta: float, nan_to_num: float | None) -> dict[str, Shares]:
    """The figures of each class by IoUMetric's names, for its `iou_metrics`: IoUMetric.total_area_to_metrics.

    `nan_to_num`, 0..1, replaces NaN.
    """
    by_name: dict[str, Shares] = {}
    accuracy = _per_cent(found.intersection, found.annotated)
    for metric in metrics:
        if metric == "mIoU":
            by_name |= {"IoU": ious(found), "Acc": accuracy}
        elif metric == "mDice":
            by_name |= {"Dice": _per_cent(2 * found.intersection, found.predicted + found.annotated), "Acc": accuracy}
        else:
            precision = _per_cent(found.intersection, found.predicted)
            score = _ratio((1 + beta**2) * precision * accuracy, beta**2 * precision + accuracy)
            by_name |= {"Fscore": score, "Precision": precision, "Recall": accuracy}
    if nan_to_num is not None:
        by_name = {name: np.where(np.isnan(values), 100 * nan_to_num, values) for name, values in by_name.items()}
    return by_name


def summary(by_name: dict[str, Shares], found: Areas) -> dict[str, float]:
    """The means that IoUMetric reports: aAcc, and by `m` and each class figure's name its mean without NaN."""
    return {"aAcc": pixel_accuracy(found), **{f"m{name}": _mean(values) for name, values in by_name.items()}}


def _mean(values: Shares) -> float:
    occurring = values[~np.isnan(values)]
    return float(occurring.mean()) if occurring.size else float("nan")


def _per_cent(part: Any, of: Any) -> Any:
    return 100.0 * _ratio(part, of)


def _ratio(part: Any, of: Any) -> Any:
    part, of = np.asarray(part, np.float64), np.asarray(of, np.float64)
    return np.divide(part, of, out=np.full(of.shape, np.nan), where=of > 0)
