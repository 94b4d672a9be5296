"""The counts and the figures from them, compared with mmsegmentation's IoUMetric and with counting pixel by pixel."""

from __future__ import annotations

from typing import Any

import mmsegmentation as theirs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pspnet_convert.cards.annotations import IGNORED
from pspnet_convert.commands.evaluate.miou import (
    NO_CLASS,
    areas,
    areas_with_void_as_background,
    areas_without_void,
    class_metrics,
    confusion,
    ious,
    mean_iou,
    pixel_accuracy,
    summary,
)

seeds = st.integers(0, 2**32 - 1)


def label_maps(seed: int, classes: int, rows: int, columns: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    truth = rng.choice([*range(classes), NO_CLASS, IGNORED], (rows, columns)).astype(np.uint8)
    return truth, rng.integers(0, classes, (rows, columns))


@given(seeds, st.integers(2, 30), st.integers(1, 12), st.integers(1, 12))
def test_each_pixel_is_counted_once_under_its_pair(seed: int, classes: int, rows: int, columns: int) -> None:
    truth, labels = label_maps(seed, classes, rows, columns)
    expected = np.zeros((classes + 2, classes), np.int64)
    for true, predicted in zip(truth.ravel().tolist(), labels.ravel().tolist()):
        expected[{NO_CLASS: classes, IGNORED: classes + 1}.get(true, true), predicted] += 1
    assert np.array_equal(confusion(truth, labels, classes), expected)


@given(seeds, st.integers(2, 12), st.integers(2, 40))
def test_the_parts_add_up_to_the_whole(seed: int, classes: int, rows: int) -> None:
    truth, labels = label_maps(seed, classes, rows, 9)
    parts = (confusion(truth[part], labels[part], classes) for part in (slice(None, rows // 2), slice(rows // 2, None)))
    assert np.array_equal(sum(parts), confusion(truth, labels, classes))


@given(seeds, st.integers(2, 12), st.integers(1, 12))
def test_areas_are_those_of_mmsegmentations_metric(seed: int, classes: int, rows: int) -> None:
    metric = theirs.quiet_import("mmseg.evaluation").IoUMetric
    truth, labels = label_maps(seed, classes, rows, 5)
    expected = metric.intersect_and_union(torch.from_numpy(labels), torch.from_numpy(truth), classes, IGNORED)
    found = areas(confusion(truth, labels, classes))
    parts = (found.intersection, found.union, found.predicted, found.annotated)
    assert [part.tolist() for part in parts] == [part.int().tolist() for part in expected]


@given(
    seeds,
    st.lists(st.sampled_from(["mIoU", "mDice", "mFscore"]), min_size=1, unique=True),
    st.integers(1, 3),
    st.sampled_from([None, 0, 1]),
)
def test_metrics_are_those_of_mmsegmentations_metric(
    seed: int, metrics: list[str], beta: int, nan_to_num: int | None
) -> None:
    metric = theirs.quiet_import("mmseg.evaluation").IoUMetric
    truth, labels = label_maps(seed, 9, 3, 4)  # few pixels: some classes do not occur
    found = areas(confusion(truth, labels, 9))
    parts = (found.intersection, found.union, found.predicted, found.annotated)
    sums = [torch.from_numpy(part.astype(np.float32)) for part in parts]
    expected: dict[str, Any] = metric.total_area_to_metrics(*sums, metrics, nan_to_num, beta)
    by_name = class_metrics(found, metrics, beta, nan_to_num)
    assert list(by_name) == [name for name in expected if name != "aAcc"]
    for name, values in by_name.items():
        assert values == pytest.approx(100 * expected[name], abs=1e-4, nan_ok=True)
        with np.errstate(all="ignore"):
            mean = np.nanmean(100 * expected[name]) if not np.isnan(expected[name]).all() else np.nan
        assert summary(by_name, found)[f"m{name}"] == pytest.approx(mean, abs=1e-4, nan_ok=True)
    if nan_to_num is None:
        assert summary(by_name, found)["aAcc"] == pytest.approx(100 * float(expected["aAcc"]), abs=1e-4, nan_ok=True)


@given(seeds, st.integers(2, 12), st.integers(1, 12))
def test_void_is_left_out_or_is_background(seed: int, classes: int, rows: int) -> None:
    truth, labels = label_maps(seed, classes, rows, 3)
    matrix = confusion(truth, labels, classes)
    is_void = truth >= NO_CLASS
    for found, kept, meant in (
        (areas_without_void(matrix), ~is_void, truth),
        (areas_with_void_as_background(matrix), np.ones_like(is_void), np.where(is_void, 0, truth)),
    ):
        expected = []
        for number in range(classes):
            is_true, is_predicted = kept & (meant == number), kept & (labels == number)
            if (is_true | is_predicted).any():
                expected.append(100 * (is_true & is_predicted).sum() / (is_true | is_predicted).sum())
        assert np.count_nonzero(~np.isnan(ious(found))) == len(expected)
        if expected:
            assert mean_iou(found) == pytest.approx(np.mean(expected), abs=1e-9)
            assert pixel_accuracy(found) == pytest.approx(100 * (meant == labels)[kept].mean(), abs=1e-9)
        else:
            assert np.isnan(mean_iou(found)) and np.isnan(pixel_accuracy(found))


def test_a_known_case() -> None:
    truth = np.array([[0, 0, 1, 255], [0, 1, 1, 254]], np.uint8)
    labels = np.array([[0, 1, 1, 0], [0, 1, 0, 3]])
    matrix = confusion(truth, labels, 4)
    assert matrix.tolist() == [[2, 1, 0, 0], [1, 2, 0, 0], [0] * 4, [0] * 4, [0, 0, 0, 1], [1, 0, 0, 0]]
    # What is predicted where there is no class is in that class's union; what is ignored is nowhere.
    assert ious(areas(matrix)).tolist()[:2] == [50, 50] and ious(areas(matrix))[3] == 0
    assert mean_iou(areas_without_void(matrix)) == 50
    assert pixel_accuracy(areas(matrix)) == pytest.approx(100 * 4 / 6)
    assert ious(areas_with_void_as_background(matrix)).tolist()[:2] == [50, 50]  # 3 of 6, 2 of 4
