"""A large image through windows: its label map is that of its blended logits, in a memory that the windows bound."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pspnet_convert.runtimes import sliding
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.merging import Answer
from pspnet_convert.runtimes.output_form import deciding_scores
from pspnet_convert.runtimes.sliding import Axis, Grid, slide, windows_run

CLASSES = 4


def logits_of(image: Image, seed: int = 1) -> NDArray[np.float32]:
    """Logits [CLASSES, h, w] that depend on the pixel and on its place in the window."""
    mix = np.random.default_rng(seed).normal(size=(CLASSES, 1, 1)).astype(np.float32)
    place = np.add.outer(np.arange(image.shape[0]), np.arange(image.shape[1])).astype(np.float32)
    return np.asarray(np.sin(image[None, :, :, 0] * mix) + 0.3 * np.cos(place * mix), np.float32)


def answers(images: Iterable[Image]) -> Iterator[Answer]:
    for image in images:
        logits = logits_of(image)
        yield Answer(logits.argmax(axis=0), logits)


def labels_alone(images: Iterable[Image]) -> Iterator[Answer]:
    return (Answer(answer.labels) for answer in answers(images))


def photo(height: int, width: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 1), dtype=np.uint8)


def blended(image: Image, grid: Grid) -> NDArray[np.float64]:
    """The same again, with the logits of the whole image at once."""
    total = np.zeros((CLASSES, *image.shape[:2]))
    for row, top in enumerate(grid.rows.starts):
        for column, left in enumerate(grid.columns.starts):
            place = np.s_[top : grid.rows.stop(row), left : grid.columns.stop(column)]
            weights = np.outer(grid.rows.weights(row), grid.columns.weights(column))
            total[:, *place] += logits_of(image[place]) * weights
    return total


sides = st.integers(16, 90)


@given(height=sides, width=sides, overlap=st.integers(0, 15), kept=st.sampled_from([1, 3000, 1 << 28]))
def test_the_labels_are_those_of_the_blended_logits(height: int, width: int, overlap: int, kept: int) -> None:
    image, grid = photo(height, width), Grid.over((height, width), (16, 20), overlap)
    image = np.pad(image, ((0, grid.rows.side - height), (0, grid.columns.side - width), (0, 0)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sliding, "_CARRIED", kept)  # as many strips as the bytes make
        seen: list[Image] = []

        def read(rows: slice, columns: slice) -> Image:
            seen.append(image[rows, columns])
            assert seen[-1].shape == (16, 20, 1)
            return seen[-1]

        labels = slide(answers, read, grid, CLASSES, blended=True)
        assert len(seen) == windows_run(grid, CLASSES, blended=True)
    expected = blended(image, grid)
    best = np.sort(expected, axis=0)
    is_clear = best[-1] - best[-2] > 1e-5
    assert is_clear.mean() > 0.9
    assert np.array_equal(labels[is_clear], expected.argmax(axis=0)[is_clear])


@given(height=sides, width=sides, overlap=st.integers(0, 15))
def test_without_logits_the_nearest_windows_label_counts(height: int, width: int, overlap: int) -> None:
    grid = Grid.over((height, width), (16, 20), overlap)
    image = photo(grid.rows.side, grid.columns.side)
    labels = slide(labels_alone, lambda rows, columns: image[rows, columns], grid, CLASSES, blended=False)
    centres = [[start + axis.length / 2 for start in axis.starts] for axis in (grid.rows, grid.columns)]
    for row, column in np.random.default_rng(3).integers(0, labels.shape, (30, 2)):
        distances = [
            [abs(place + 0.5 - centre) for centre in along] for place, along in zip((row, column), centres, strict=True)
        ]
        top, left = grid.rows.starts[int(np.argmin(distances[0]))], grid.columns.starts[int(np.argmin(distances[1]))]
        window = logits_of(image[top : top + 16, left : left + 20]).argmax(axis=0)
        if all(sorted(one)[:2] != sorted(one)[:1] * 2 for one in distances):  # two centres may be as near
            assert labels[row, column] == window[row - top, column - left]


@given(side=st.integers(1, 500), length=st.integers(1, 60), share=st.floats(0, 0.99))
def test_windows_cover_a_side_and_overlap_by_no_less_than_asked(side: int, length: int, share: float) -> None:
    overlap = min(int(share * length), length - 1)
    axis = Axis.over(side, length, overlap)
    assert axis.starts[0] == 0
    assert axis.stop(len(axis.starts) - 1) == axis.side == max(side, length)
    overlaps = [axis.stop(number) - axis.starts[number + 1] for number in range(len(axis.starts) - 1)]
    assert all(overlap <= one < length for one in overlaps)
    without_last = (len(axis.starts) - 1) * (length - overlap) + overlap  # pixels that one window fewer covers
    assert len(axis.starts) == 1 or without_last < side


@given(side=st.integers(20, 300), overlap=st.integers(0, 9))
def test_the_weights_of_a_pixel_in_two_windows_add_up_to_one(side: int, overlap: int) -> None:
    axis = Axis.over(side, 20, overlap)
    assume(all(third >= first + 20 for first, third in zip(axis.starts, axis.starts[2:])))
    total = np.zeros(axis.side)
    for number, start in enumerate(axis.starts):
        total[start : start + 20] += axis.weights(number)
    assert total == pytest.approx(np.ones(axis.side), abs=1e-6)


def test_one_window_has_the_models_own_labels() -> None:
    """Even where a tie is decided in another way than numpy's argmax does it."""
    image, grid = photo(16, 20), Grid.over((16, 20), (16, 20), 5)
    tie = np.zeros((CLASSES, 16, 20), np.float32)
    model = Answer(np.full((16, 20), 3), tie)
    labels = slide(lambda images: (model for _ in images), lambda *_: image, grid, CLASSES, blended=True)
    assert (labels == 3).all()


@pytest.mark.parametrize("blends", [True, False])
def test_the_logits_of_the_whole_image_are_never_there(blends: bool) -> None:
    image, grid = photo(1200, 1600), Grid.over((1200, 1600), (40, 40), 10)
    whole = 4 * CLASSES * 1200 * 1600
    run = answers if blends else labels_alone
    tracemalloc.start()
    slide(run, lambda rows, columns: image[rows, columns], grid, CLASSES, blended=blends)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - 1200 * 1600 < whole / 8


@pytest.mark.parametrize(
    ("names", "classes", "expected"),
    [
        ([], 21, None),
        (["probabilities"], 21, "probabilities"),
        (["logits", "probabilities"], 21, "logits"),
        (["logits"], 2, "logits"),
        (["probabilities"], 2, None),  # a binary head's threshold is not in them
    ],
)
def test_the_scores_that_decide_the_label(names: list[str], classes: int, expected: str | None) -> None:
    assert deciding_scores(names, classes) == expected
