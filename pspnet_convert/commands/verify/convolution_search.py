"""Find the first wrong convolution of a file from elsewhere. Its tensors do not have the export's names.

Its convolutions are paired with the reference's: by their place if both have the same shapes in the same order, else by
their values. The reference's BatchNorms are folded, and a file's convolution ends after its bias and BatchNorm.
Another set of shapes is another structure, and nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.right_graph import ONE_STEP, plus_rounding
from pspnet_convert.runtimes.layer_taps import Convolution, LayerTaps
from pspnet_convert.runtimes.logit_error import NO_ERROR, Error, error_of

if TYPE_CHECKING:
    from pspnet_convert.pytorch.convolution_runs import ConvolutionRun, Sketch

_F32 = Error(3 * ONE_STEP.rms, 3 * ONE_STEP.largest)  # the error of all layers before adds up
_ADDED = 8  # times the error before it: less is no fault of the convolution's own


@dataclass(frozen=True)
class Runs:
    """The reference's convolutions and result; `rounded`: with its weights in FP16, for a model with such weights."""

    exact: Sequence[ConvolutionRun]
    rounded: Sequence[ConvolutionRun] | None

    def error(self, place: int, kind: str, found: Sketch) -> tuple[Error, bool]:
        """Of `found` against `kind` (given or result) of the convolution at `place`; and whether it may be so large."""
        expected = getattr(self.exact[place], kind)
        error, limit = _error(found, expected), _F32
        if self.rounded is not None:
            other = getattr(self.rounded[place], kind)
            moved = _error(other, expected)
            limit = plus_rounding(limit, moved)
            error = min(error, _error(found, other), key=lambda one: one.rms)
        return error, error.within(limit)


@dataclass(frozen=True)
class WrongConvolution:
    """The reference's convolution at `place` (from 0); the last place is the network's result.

    `tensor` is the model's first wrong one: the convolution's result, or with `is_before` what it is given. `known` are
    the model's tensors before it that are right.
    """

    place: int
    tensor: str
    known: tuple[str, ...]
    before: Error
    after: Error
    is_before: bool


@dataclass(frozen=True)
class _Seen:
    """A convolution of the model, with sketches of its tensors."""

    of: Convolution
    given: Sketch
    results: Sequence[Sketch]


def first_wrong_convolution(
    found: LayerTaps, given: NDArray[np.generic], runs: Runs, group: int
) -> WrongConvolution | None:
    """None if all are right, or if the model has another structure. `group`: bytes of tensors that a run may keep."""
    convolutions = found.convolutions()
    shapes = [run.weight for run in runs.exact[:-1]]
    if sorted(one.weight for one in convolutions) != sorted(shapes) or found.logits is None:
        return None
    in_order = [one.weight for one in convolutions] == shapes
    convolutions = [*convolutions, Convolution(found.image, (found.logits,), ())]
    seen = list(_look(found, given, convolutions, group))
    places = _matched(seen, runs, in_order)
    for number, one in enumerate(seen):
        if number not in places:
            place = _place(number, one, runs, places, in_order)
            right = {match: seen[match] for match in places if match < number}
            return None if place is None else _wrong(place, one, runs, right, places)
    return None


def _look(
    found: LayerTaps, given: NDArray[np.generic], convolutions: Sequence[Convolution], group: int
) -> Iterator[_Seen]:
    """Run the model on `given`, each time with as many tensors read as fit into `group` bytes."""
    from pspnet_convert.pytorch.convolution_runs import sketch

    sizes = found.sizes(len(given))
    waiting: list[Convolution] = []

    def look() -> Iterator[_Seen]:
        names = {name for one in waiting for name in (one.given, *one.results) if name != found.image}
        values = {**found.run(names, given), found.image: given}
        sketches = {name: sketch(np.asarray(value)) for name, value in values.items() if value.ndim == 4}
        empty = np.zeros(0, np.float32)
        for one in waiting:
            yield _Seen(one, sketches.get(one.given, empty), [sketches.get(name, empty) for name in one.results])

    used = 0
    for one in convolutions:
        size = sum(sizes.get(name, 0) for name in (one.given, *one.results))
        if waiting and used + size > group:
            yield from look()
            waiting, used = [], 0
        waiting.append(one)
        used += size
    yield from look()


def _matched(seen: Sequence[_Seen], runs: Runs, in_order: bool) -> dict[int, int]:
    """The place in the reference of each of the model's convolutions that is right."""
    places: dict[int, int] = {}
    for number, one in enumerate(seen):
        candidates = [number] if in_order else _free(one, runs, places)
        right = [(error.rms, place) for place in candidates for error, ok in [_best(one, runs, place)] if ok]
        if right:
            places[number] = min(right)[1]
    return places


def _free(one: _Seen, runs: Runs, places: Mapping[int, int]) -> list[int]:
    taken = set(places.values())
    return [place for place, run in enumerate(runs.exact) if run.weight == one.of.weight and place not in taken]


def _best(one: _Seen, runs: Runs, place: int) -> tuple[Error, bool]:
    return min((runs.error(place, "result", result) for result in one.results), key=lambda found: found[0].rms)


def _place(number: int, one: _Seen, runs: Runs, places: Mapping[int, int], in_order: bool) -> int | None:
    """Where the wrong convolution `number` is in the reference; None if that is not sure."""
    if in_order:
        return number
    candidates = _free(one, runs, places)
    of_same_input = [place for place in candidates if runs.error(place, "given", one.given)[1]]
    sure = of_same_input or candidates
    return sure[0] if len(sure) == 1 else None


def _wrong(
    place: int, one: _Seen, runs: Runs, right: Mapping[int, _Seen], places: Mapping[int, int]
) -> WrongConvolution | None:
    """`right`: the convolutions before it, which are right, by their number."""
    errors = [runs.error(place, "result", result)[0] for result in one.results]
    after = min(errors, key=lambda error: error.rms)
    tensor = one.of.results[errors.index(after)]
    known = tuple(name for other in right.values() for name in (other.of.given, *other.of.results))
    if not right:  # from the image, whose channels an IR may reverse in the weights
        return WrongConvolution(place, tensor, known, NO_ERROR, after, is_before=False)
    last = _best(right[max(right)], runs, places[max(right)])[0]
    if not one.of.weight:
        return WrongConvolution(place, tensor, known, last, after, is_before=False)
    before, is_right = runs.error(place, "given", one.given)
    if not is_right:
        return WrongConvolution(place, one.of.given, known, last, before, is_before=True)
    if after.rms <= _ADDED * before.rms:
        return None
    return WrongConvolution(place, tensor, (*known, one.of.given), before, after, is_before=False)


def _error(found: Sketch, expected: Sketch) -> Error:
    return error_of(found, expected) if found.shape == expected.shape else Error(np.inf, np.inf)
