"""The confusion matrix and the figures from it, compared with counting pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pspnet_convert.commands.evaluate.miou import VOID, confusion, ious, mean_iou, pixel_accuracy

seeds = st.integers(0, 2**32 - 1)


def label_maps(seed: int, classes: int, rows: int, columns: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    truth = rng.choice([*range(classes), VOID], (rows, columns)).astype(np.uint8)
    return truth, rng.integers(0, classes, (rows, columns))


@given(seeds, st.integers(2, 30), st.integers(1, 12), st.integers(1, 12))
def test_each_pixel_is_counted_once_under_its_pair(seed: int, classes: int, rows: int, columns: int) -> None:
    truth, labels = label_maps(seed, classes, rows, columns)
    expected = np.zeros((classes, classes), np.int64)
    for true, predicted in zip(truth.ravel().tolist(), labels.ravel().tolist()):
        if true != 255:
            expected[true, predicted] += 1
    assert np.array_equal(confusion(truth, labels, classes), expected)


@given(seeds, st.integers(2, 12), st.integers(2, 40))
def test_the_parts_add_up_to_the_whole(seed: int, classes: int, rows: int) -> None:
    truth, labels = label_maps(seed, classes, rows, 9)
    parts = (confusion(truth[part], labels[part], classes) for part in (slice(None, rows // 2), slice(rows // 2, None)))
    assert np.array_equal(sum(parts), confusion(truth, labels, classes))


@given(seeds, st.integers(2, 12), st.integers(1, 12))
def test_the_mean_runs_over_the_classes_that_occur_in_truth_or_prediction(seed: int, classes: int, rows: int) -> None:
    truth, labels = label_maps(seed, classes, rows, 3)
    counted = truth != VOID
    expected = []
    for number in range(classes):
        is_true, is_predicted = counted & (truth == number), counted & (labels == number)
        if (is_true | is_predicted).any():
            expected.append(100 * (is_true & is_predicted).sum() / (is_true | is_predicted).sum())
    matrix = confusion(truth, labels, classes)
    if expected:
        assert mean_iou(matrix) == pytest.approx(np.mean(expected), abs=1e-9)
        assert pixel_accuracy(matrix) == pytest.approx(100 * (truth == labels)[counted].mean(), abs=1e-9)
    else:
        assert np.isnan(mean_iou(matrix)) and np.isnan(pixel_accuracy(matrix))
    assert np.count_nonzero(~np.isnan(ious(matrix))) == len(expected)


def test_a_known_case() -> None:
    truth = np.array([[0, 0, 1, 255], [0, 1, 1, 255]], np.uint8)
    labels = np.array([[0, 1, 1, 0], [0, 1, 0, 3]])
    matrix = confusion(truth, labels, 4)
    assert matrix.tolist() == [[2, 1, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert ious(matrix)[:2].tolist() == [50, 50]
    assert mean_iou(matrix) == 50
    assert pixel_accuracy(matrix) == pytest.approx(100 * 4 / 6)
