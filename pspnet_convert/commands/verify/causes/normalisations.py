"""What a model does to an image's channels before its first layer: order, mean and scale, right ones and wrong ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import Input
from pspnet_convert.errors import count
from pspnet_convert.runtimes.input_form import Image

Values = NDArray[np.float64]
_COLOURS = {"RGB": ("red", "green", "blue"), "BGR": ("blue", "green", "red")}
_MOST_ORDERS = 3  # channels up to which all orders of mean and scale are tried
_MOST_PAIRS = 16  # channels up to which each two may be swapped, not only neighbours
_LISTED = 4  # channels whose numbers a message lists
_SAME = 1e-9


@dataclass(frozen=True)
class Affine:
    """The network's input is `matrix` @ pixel + `offset`. `matrix`: [C, C], `offset`: [C], a pixel: [C], as in the
    image."""

    matrix: Values
    offset: Values

    def apply(self, image: Image) -> NDArray[np.float32]:
        """The network's input, float32 [1, C, H, W], for an image [H, W, C]."""
        pixels = image.astype(np.float64) @ self.matrix.T + self.offset
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)


@dataclass(frozen=True)
class Normalisation:
    """`(value - mean) / scale`; channel c of the network's input is channel `order[c]` of the image."""

    order: tuple[int, ...]
    mean: Values
    scale: Values

    @classmethod
    def of(cls, card_input: Input) -> Normalisation:
        order = tuple(card_input.in_ir_order(range(card_input.channels)))
        return cls(order, np.array(card_input.mean, np.float64), np.array(card_input.scale, np.float64))

    @property
    def affine(self) -> Affine:
        matrix = np.zeros((len(self.order), len(self.order)))
        matrix[np.arange(len(self.order)), self.order] = 1 / self.scale
        return Affine(matrix, -self.mean / self.scale)

    def is_near(self, other: Normalisation, tolerance: float, largest: float = 0.0) -> bool:
        """Whether the order is the same, and the results for values up to `largest` are, but for this part of them."""
        ratio = self.scale / other.scale - 1
        shift = (self.mean - other.mean) / other.scale
        size = np.maximum(1, np.maximum(np.abs(other.mean), largest) / np.abs(other.scale))
        return self.order == other.order and bool((np.maximum(np.abs(ratio), np.abs(shift) / size) <= tolerance).all())


def fitted(affine: Affine) -> Normalisation | None:
    """The order, mean and scale that `affine` comes to; None if a channel is a mix of several, or is not read."""
    order = np.abs(affine.matrix).argmax(axis=1)
    places = np.arange(len(order))
    factors = affine.matrix[places, order]
    rest = affine.matrix.copy()
    rest[places, order] = 0
    if np.abs(rest).max() > 0.01 * np.abs(factors).min():
        return None
    return Normalisation(tuple(order.tolist()), -affine.offset / factors, 1 / factors)


Named = tuple[str, Normalisation]


def single_mistakes(card_input: Input) -> Iterator[Named]:
    """One mistake each, in words; none of them is equal to the card's normalisation."""
    right = Normalisation.of(card_input)
    wrong = [(words, replace(right, order=order)) for words, order in _wrong_orders(card_input)]
    if card_input.is_color:
        swapped = Normalisation(right.order[::-1], right.mean[::-1], right.scale[::-1])
        wrong.insert(1, ("red and blue are swapped, and their means and scales with them", swapped))
    wrong += [(words, Normalisation(right.order, *values)) for words, *values in _wrong_values(card_input)]
    yield from (named for named in wrong if not named[1].is_near(right, _SAME))


def double_mistakes(card_input: Input) -> Iterator[Named]:
    """A wrong order of the channels, and mean and scale wrong too."""
    values = list(_wrong_values(card_input))
    for of_order, order in _wrong_orders(card_input):
        for of_values, mean, scale in values:
            yield f"{of_order}, and {of_values}", Normalisation(order, mean, scale)


def _wrong_orders(card_input: Input) -> Iterator[tuple[str, tuple[int, ...]]]:
    right = Normalisation.of(card_input).order
    if card_input.is_color:
        yield "red and blue are swapped", right[::-1]
    elif len(right) > 1:
        for first, second in combinations(range(len(right)), 2):
            if second == first + 1 or len(right) <= _MOST_PAIRS:
                swapped = list(right)
                swapped[first], swapped[second] = right[second], right[first]
                yield order_in_words(swapped, card_input), tuple(swapped)
        yield "the order of the channels is reversed", right[::-1]
    if len(right) <= _MOST_ORDERS:
        for order in permutations(right):
            if order not in (right, right[::-1]):
                yield order_in_words(order, card_input), order


def _wrong_values(card_input: Input) -> Iterator[tuple[str, Values, Values]]:
    right = Normalisation.of(card_input)
    mean, scale = right.mean, right.scale
    none, one = np.zeros_like(mean), np.ones_like(scale)
    yield "the mean is missing", none, scale
    yield "the scale is missing", mean, one
    yield "mean and scale are missing", none, one
    yield "the mean is subtracted twice", 2 * mean, scale
    yield "the scale is applied twice", mean, scale**2
    yield "the scale is inverted", mean, 1 / scale
    yield "mean and scale are applied twice", mean + mean * scale, scale**2
    yield "mean and scale are exchanged", scale, np.where(mean == 0, 1, mean)
    yield "the scale is applied before the mean", mean * scale, scale
    yield "the mean is added", -mean, scale
    yield "mean and scale are those of values of 0..1", mean / 255, scale / 255
    yield "the image is divided by 255 first", mean * 255, scale * 255
    yield "the image is divided by 255, without mean and scale", none, 255 * one
    yield "the image is scaled to -1..1, without mean and scale", 127.5 * one, 127.5 * one
    for words, order in _orders_of_values(card_input):
        yield f"the means {words}", mean[order], scale
        yield f"the scales {words}", mean, scale[order]
        yield f"means and scales {words}", mean[order], scale[order]


def _orders_of_values(card_input: Input) -> Iterator[tuple[str, list[int]]]:
    places = list(range(card_input.channels))
    if card_input.is_color:
        yield "of red and blue are swapped", places[::-1]
    elif len(places) > 1:
        yield "are in reversed order", places[::-1]
    others = permutations(places) if len(places) <= _MOST_ORDERS else [np.roll(places, by) for by in (1, -1)]
    for order in map(list, others):
        if order not in (places, places[::-1]):
            yield "are in another order", order


def order_in_words(order: Sequence[int], card_input: Input) -> str:
    """How an order of the image's channels differs from the card's."""
    right = Normalisation.of(card_input).order
    names = channel_names(card_input)
    name_of = dict(zip(right, names))
    moved = [place for place in range(len(right)) if order[place] != right[place]]
    read = [name_of[place] for place in order]
    if len(moved) == 2 and sorted(order) == sorted(right):
        first, second = (names[place] for place in moved)
        return f"{first} and {second} are swapped"
    if len(moved) > _LISTED or sorted(order) == sorted(right):
        return f"the channels are in the order {', '.join(read)}; it should be {', '.join(names)}"
    return " and ".join(f"{read[place]} is read instead of {names[place]}" for place in moved)


def channel_names(card_input: Input) -> Sequence[str]:
    return _COLOURS.get(card_input.color_order) or [f"channel {number}" for number in range(card_input.channels)]


def difference_in_words(found: Normalisation, card_input: Input, tolerance: float) -> str:
    """How `found` differs from the card's, with its numbers; empty where it does not, by more than `tolerance`."""
    right = Normalisation.of(card_input)
    words = [] if found.order == right.order else [order_in_words(found.order, card_input)]
    shift = np.abs(found.mean - right.mean) / right.scale
    ratio = np.abs(found.scale / right.scale - 1)
    size = np.maximum(1, np.abs(right.mean) / right.scale)
    for name, is_wrong, values, expected in (
        ("mean", shift > tolerance * size, found.mean, right.mean),
        ("scale", ratio > tolerance, found.scale, right.scale),
    ):
        if is_wrong.any():
            digits = 6 if tolerance < 1e-3 else 4
            words.append(_numbers(name, np.flatnonzero(is_wrong), values, expected, channel_names(card_input), digits))
    return "; ".join(words)


def _numbers(
    name: str, wrong: NDArray[np.intp], values: Values, expected: Values, channels: Sequence[str], digits: int
) -> str:
    if len(wrong) == len(channels) <= _LISTED:
        found, right = (", ".join(f"{value:.{digits}g}" for value in some) for some in (values, expected))
        return f"the {name} is [{found}], the card says [{right}]"
    each = [
        f"{channels[c]}'s {name} is {values[c]:.{digits}g}, the card says {expected[c]:.{digits}g}"
        for c in wrong[:_LISTED]
    ]
    return ", ".join(each) + (f", and {count(len(wrong) - _LISTED, 'more channel')}" if len(wrong) > _LISTED else "")
