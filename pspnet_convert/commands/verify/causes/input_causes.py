"""Faults in the input: the order of its channels, mean and scale, its values, its axes, its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.causes.evidence import Cause, Evidence, Tests
from pspnet_convert.commands.verify.causes.first_layer import FirstLayer
from pspnet_convert.commands.verify.causes.normalisations import (
    Affine,
    Normalisation,
    channel_names,
    difference_in_words,
    double_mistakes,
    fitted,
    single_mistakes,
)
from pspnet_convert.commands.verify.causes.reference_runs import run, run_with_mean_in_bias
from pspnet_convert.runtimes.backends import normalised
from pspnet_convert.runtimes.input_form import Image

Tensor = NDArray[np.float32]
_NAMED = 3e-3  # how near a fit must be to a mistake's numbers; the reference decides
# A difference of mean or scale that is not looked for; FP16 rounds them by up to 2**-11, 5e-4.
_FINEST = {"f32": 1e-4}
_FINEST_ROUNDED = 1e-3
_FAR = 4  # pixels that an image may be shifted by


def input_causes(evidence: Evidence, layer: FirstLayer | None) -> Tests:
    """Hypotheses on what the network is given. With the first layer's output, only those that it allows are run."""
    if layer is not None and layer.is_right(evidence.tensor):
        if not layer.is_right_at_borders(evidence.tensor):
            yield _mean_in_bias(evidence)
        return
    yield from _affine(evidence, layer)
    for what, tensors in chain(_of_values(evidence), _of_axes(evidence), _shifts(evidence, layer)):
        for tensor in tensors:
            if layer is None or layer.allows(tensor, evidence.tensor):
                yield evidence.explained_by("input", what, run(evidence.network, tensor))


# Order, mean and scale


def _affine(evidence: Evidence, layer: FirstLayer | None) -> Tests:
    card_input = evidence.card.input
    fit = layer.fit(evidence.image) if layer is not None else None
    if fit is None:
        for what, wrong in single_mistakes(card_input):
            if layer is None or layer.allows(wrong.affine.apply(evidence.image), evidence.tensor):
                yield _explained(evidence, what, wrong.affine)
        return
    found = fitted(fit.affine)
    if found is None:
        yield _explained(evidence, _mix_in_words(fit.affine, evidence), fit.affine)
        return
    largest = float(np.abs(evidence.image.astype(np.float64)).max())
    mistakes = chain(single_mistakes(card_input), double_mistakes(card_input))
    near = [(what, wrong) for what, wrong in mistakes if found.is_near(wrong, _NAMED, largest)]
    for what, wrong in near:
        yield _explained(evidence, what, wrong.affine)
    tolerance = max(_FINEST.get(evidence.precision, _FINEST_ROUNDED), 10 * fit.residual)
    if near and evidence.precision not in _FINEST:
        what, _ = near[0]  # the rounding of its numbers may be all of the rest
    else:
        what = difference_in_words(found, card_input, tolerance)
    if what:
        yield _explained(evidence, what, fit.affine)


def _explained(evidence: Evidence, what: str, affine: Affine) -> Cause | None:
    return evidence.explained_by("input", what, run(evidence.network, affine.apply(evidence.image)))


def _mean_in_bias(evidence: Evidence) -> Cause | None:
    black = Normalisation.of(evidence.card.input).affine.offset.tolist()
    what = "the first layer's bias subtracts the mean, which is wrong at the image's borders"
    return evidence.explained_by("input", what, run_with_mean_in_bias(evidence.network, evidence.tensor, black))


def _mix_in_words(affine: Affine, evidence: Evidence) -> str:
    names = channel_names(evidence.card.input)
    sizes = np.abs(affine.matrix).max(axis=1)
    unread = [name for name, size in zip(names, sizes) if size <= 1e-3 * sizes.max()]
    if unread:
        return f"{', '.join(unread)} of the input {'is' if len(unread) == 1 else 'are'} constant"
    return "each channel of the input is a mix of several"


# Values, axes, place: in words, and the tensors that the network may have been given then


Named = tuple[str, Sequence[Tensor]]


def _of_values(evidence: Evidence) -> Iterator[Named]:
    image, card_input = evidence.image, evidence.card.input

    def tensor(changed: NDArray[np.generic]) -> Tensor:
        return normalised([changed.astype(np.float32)], card_input)

    values, given = image.astype(np.float64), evidence.tensor
    if image.dtype == np.uint8:
        yield "values above 127 are taken as negative (signed bytes)", [tensor(image.astype(np.int8))]
        yield "values above 127 are cut off", [tensor(values.clip(0, 127))]
    yield "values above 1 are cut off", [tensor(values.clip(0, 1))]
    yield "normalised values are cut to whole numbers", [np.trunc(given), np.rint(given), np.floor(given)]
    yield "normalised values are cut to bytes", [np.rint(given).clip(0, 255), np.trunc(given).clip(0, 255)]
    yield "normalised values are cut to 0..1", [given.clip(0, 1)]
    yield "normalised values are cut to -1..1", [given.clip(-1, 1)]
    yield "normalised values below 0 are cut off", [given.clip(0, None)]


_TURNS: Sequence[tuple[str, bool, Callable[[Image], Image]]] = (
    ("the input is mirrored left to right", False, lambda image: image[:, ::-1]),
    ("the input is upside down", False, lambda image: image[::-1]),
    ("the input is rotated by 180 degrees", False, lambda image: image[::-1, ::-1]),
    ("rows and columns of the input are exchanged", True, lambda image: image.swapaxes(0, 1)),
    ("the input is rotated by 90 degrees", True, lambda image: np.rot90(image)),
    ("the input is rotated by 270 degrees", True, lambda image: np.rot90(image, 3)),
    ("the input is mirrored along its other diagonal", True, lambda image: np.rot90(image, 2).swapaxes(0, 1)),
)


def _of_axes(evidence: Evidence) -> Iterator[Named]:
    image, card_input = evidence.image, evidence.card.input
    is_square = image.shape[0] == image.shape[1]
    for what, needs_square, change in _TURNS:
        if is_square or not needs_square:
            yield what, [normalised([change(image)], card_input)]
    if image.shape[2] > 1:
        misread = np.ascontiguousarray(image).reshape(image.shape[2], *image.shape[:2]).transpose(1, 2, 0)
        yield "channels are last in the input, and are read as if they were first", [normalised([misread], card_input)]
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)).reshape(image.shape)
        yield "channels are first in the input, and are read as if they were last", [normalised([planes], card_input)]
    if not is_square:
        crossed = np.ascontiguousarray(image.swapaxes(0, 1)).reshape(image.shape)
        yield "height and width of the input are exchanged", [normalised([crossed], card_input)]


def _shifts(evidence: Evidence, layer: FirstLayer | None) -> Iterator[Named]:
    """With the first layer's output, the one shift that fits best; else by one pixel."""
    given = evidence.tensor
    far = 1 if layer is None else _FAR
    steps = [(y, x) for y in range(-far, far + 1) for x in range(-far, far + 1) if (y, x) != (0, 0)]
    if layer is None:
        steps = [step for step in steps if 0 in step]
    else:
        steps = [min(steps, key=lambda step: layer.residual(np.roll(given, step, (2, 3))))]
    for step in steps:
        yield _shift_in_words(step), list(_shifted(evidence, step))


def _shifted(evidence: Evidence, step: tuple[int, int]) -> Iterator[Tensor]:
    """The image moved by `step` (rows, columns), with what may come in at its border."""
    given = evidence.tensor
    yield np.roll(given, step, (2, 3))
    rows, columns = (np.arange(side) - by for side, by in zip(given.shape[2:], step))
    edges = [places.clip(0, len(places) - 1) for places in (rows, columns)]
    repeated = given[:, :, edges[0]][:, :, :, edges[1]]
    yield repeated
    inside = np.multiply.outer(rows == edges[0], columns == edges[1])
    yield np.where(inside, repeated, np.float32(0))
    right = Normalisation.of(evidence.card.input).affine
    yield np.where(inside, repeated, right.offset.astype(np.float32)[:, None, None])


def _shift_in_words(step: tuple[int, int]) -> str:
    parts = []
    for by, (before, after) in zip(step, (("up", "down"), ("to the left", "to the right"))):
        if by:
            parts.append(f"by {abs(by)} {'pixel' if abs(by) == 1 else 'pixels'} {after if by > 0 else before}")
    return f"the input is shifted {' and '.join(parts)}"
