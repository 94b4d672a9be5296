"""What an evaluation says of a result in which annotations and model do not mean the same by a number."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pspnet_convert.commands.evaluate.miou import confusion
from pspnet_convert.commands.evaluate.suspicions import masks, suspicions

NAMES = ["road", "sky", "tree", "car", "wall"]


def annotated(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 5, (40, 40)).astype(np.uint8)


def found(truth: NDArray[np.uint8], labels: NDArray[np.uint8]) -> list[str]:
    counts = confusion(truth, labels, 5)
    return suspicions({"ONNX": counts, "IR FP32": counts}, NAMES)


def test_a_good_result_is_not_suspicious_nor_is_a_bad_model() -> None:
    truth = annotated()
    assert found(truth, truth) == []
    assert found(truth, annotated(1)) == []
    assert found(truth, np.full_like(truth, 3)) == []
    frequent = np.where(truth > 0, 1, truth).astype(np.uint8)
    assert found(frequent, np.full_like(truth, 2)) == []


def test_a_shift_names_the_option() -> None:
    truth = annotated()
    (one,) = found(np.where(truth == 0, 255, truth - 1).astype(np.uint8), truth)
    assert "--zero-label class" in one and "road -> sky" in one
    counted_from_one = (truth % 4 + 1).astype(np.uint8)
    (other,) = found(counted_from_one, counted_from_one - 1)
    assert "--zero-label ignored" in other and "sky -> road" in other


def test_another_order_is_shown() -> None:
    truth = annotated()
    order = np.array([3, 0, 4, 1, 2], np.uint8)
    (one,) = found(truth, order[truth])
    assert "road -> car, sky -> road, tree -> wall, car -> sky, wall -> tree" in one
    assert "--label-map" in one


def test_models_that_disagree_prove_nothing() -> None:
    truth = annotated()
    shifted = confusion((truth % 4 + 1).astype(np.uint8), truth % 4, 5)
    assert suspicions({"ONNX": shifted, "IR FP32": confusion(truth, truth, 5)}, NAMES) == []


@pytest.mark.parametrize(("share", "is_said"), [(0.4, False), (0.6, True)])
def test_more_ignored_than_not_is_said(share: float, is_said: bool) -> None:
    labels = annotated()
    truth = labels.copy()
    truth[: int(share * 40)] = 255
    assert [("are ignored" in one) for one in found(truth, labels)] == ([True] if is_said else [])


def test_annotations_of_one_class_are_said() -> None:
    truth = annotated()
    (one,) = found(np.zeros_like(truth), truth)
    assert one == "All annotated pixels are road. Are these the right files?"


def test_masks_of_0_and_255_are_said() -> None:
    assert masks(set(), 3) == []
    (one,) = masks({"b", "a"}, 3)
    assert one.startswith("2 of 3 annotations (a, ...) have 0 and 255 alone, and 255 is ignored.")
