"""Several inferences at a time give the answers of one at a time, in the images' order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import irs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ArtifactError, ImageError
from pspnet_convert.runtimes.backends import OpenVinoBackend
from pspnet_convert.runtimes.merging import Answer, OneAnswer
from pspnet_convert.runtimes.resized_logits import labels_at_size


def images(count: int) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(1).integers(0, 256, (count, 72, 64, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def ir(small_run: Path) -> Path:
    return small_run / "public" / "small-standin" / "FP32" / "small-standin.xml"


@pytest.mark.parametrize("throughput", [False, True])
@pytest.mark.parametrize("scored", [False, True])
def test_the_answers_are_those_of_each_image_alone(
    ir: Path, small: ModelCard, tmp_path: Path, throughput: bool, scored: bool
) -> None:
    path = irs.with_logits(ir, tmp_path / "small-standin.xml") if scored else ir
    backend = OpenVinoBackend(path, small, throughput=throughput)
    assert backend.scores == (["logits"] if scored else [])
    shown = images(7)
    found = list(backend.in_flight(shown))
    expected = list(OpenVinoBackend(ir, small).run(shown))
    assert len(found) == 7
    for one, other in zip(found, expected):
        assert np.array_equal(one.labels, other.labels)
        assert list(one.scores) == backend.scores
        if scored:
            assert np.allclose(one.scores["logits"], other.logits, atol=1e-5)


@pytest.mark.parametrize("throughput", [False, True])
def test_what_comes_before_an_image_that_fails_is_answered(ir: Path, small: ModelCard, throughput: bool) -> None:
    def shown() -> Iterator[Any]:
        yield from images(5)
        raise ImageError("the sixth")

    answers = OpenVinoBackend(ir, small, throughput=throughput).in_flight(shown())
    assert [next(answers).labels.shape for _ in range(5)] == [(72, 64)] * 5
    with pytest.raises(ImageError, match="the sixth"):
        next(answers)


def test_an_image_that_openvino_refuses(ir: Path, small: ModelCard) -> None:
    with pytest.raises(ArtifactError, match="OpenVINO cannot run it"):
        list(OpenVinoBackend(ir, small).in_flight([np.zeros((72, 60, 3), np.uint8)]))


# Another size


@given(
    classes=st.integers(2, 5),
    old=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    new=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    at_once=st.sampled_from([1, 500, 1 << 24]),
)
def test_resized_logits_decide_as_torchs_do(
    classes: int, old: tuple[int, int], new: tuple[int, int], at_once: int
) -> None:
    from pspnet_convert.runtimes import resized_logits

    logits = np.random.default_rng(0).normal(size=(classes, *old)).astype(np.float32)
    expected = interpolate(torch.from_numpy(logits)[None], size=new, mode="bilinear", align_corners=False)[0].numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resized_logits, "_VALUES_AT_ONCE", at_once)
        labels = labels_at_size(logits, new)
    best = np.sort(expected, axis=0)
    is_clear = best[-1] - best[-2] > 1e-4
    assert labels.dtype == np.uint8
    assert np.array_equal(labels[is_clear], expected.argmax(axis=0)[is_clear])


def test_a_fitted_images_labels_are_from_its_logits_and_without_its_padding() -> None:
    logits = np.full((2, 8, 8), -1.0, np.float32)
    logits[0, :6] = 1.2 - 2 / 7 * np.arange(8)  # 0 at 4.2
    logits[1, :6] = 0
    logits[1, 6:] = 9  # padding
    merge = OneAnswer((6, 8), (60, 80))
    merge.add(Answer(logits.argmax(axis=0), logits))
    smooth, stepped = merge.label_maps()["logits"], merge.label_maps()["label map"]
    assert smooth.shape == stepped.shape == (60, 80)
    assert (smooth == (np.arange(80) >= 47)).all()
    assert (stepped == (np.arange(80) >= 50)).all()
    merge = OneAnswer((8, 8), (8, 8))
    merge.add(Answer(np.full((8, 8), 1), logits))
    assert "logits" not in merge.label_maps()  # nothing is resized: the model's own labels count
