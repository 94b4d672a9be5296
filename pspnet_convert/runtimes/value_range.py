"""The values that a model's images have, by mean and scale: for drawn images, and to choose the IR's number type."""

from __future__ import annotations

from pspnet_convert.cards.card import Input
from pspnet_convert.errors import OptionError
from pspnet_convert.runtimes.input_form import PLAIN, InputForm

_BYTE, _WORD = 255, 65535
_WHOLE = 8  # a deviation from which on the values are probably whole numbers
_FEWEST = 8  # numbers, between which rounding would lose the image
_DEVIATIONS = 2  # to both sides of the mean: where 19 of 20 values are

Range = tuple[float, float]


def value_ranges(card_input: Input, form: InputForm = PLAIN) -> list[Range]:
    """By channel of the card, where most values are, among those that `form` holds: two deviations around the mean.

    Values that look like bytes or 16-bit numbers are not negative and not larger than those. Without normalisation
    they are bytes.
    """
    if not card_input.is_normalised:
        return [(0, _BYTE)] * card_input.channels
    ranges = [_range(mean, scale) for mean, scale in zip(card_input.mean, card_input.scale)]
    if form.limits is None:
        return ranges
    least, most = form.limits
    return [(max(low, least), min(high, most)) for low, high in ranges]


def ranges_of_ir(card_input: Input, form: InputForm = PLAIN) -> list[Range]:
    """value_ranges in the order in which an IR takes the channels."""
    return list(card_input.in_ir_order(value_ranges(card_input, form)))


def _range(mean: float, scale: float) -> Range:
    low, high = mean - _DEVIATIONS * scale, mean + _DEVIATIONS * scale
    if mean < 0 or scale < _WHOLE:
        return low, high
    most = _BYTE if mean <= _BYTE and scale <= _BYTE + 1 else _WORD
    return max(low, 0), (min(high, most) if mean <= most else high)


def check_type(card_input: Input, form: InputForm) -> None:
    """Raise OptionError if the number type of `form` does not hold the model's values, or has too few numbers for them.

    How far values reach below their mean is not known: few images have a normal distribution.
    """
    if form.limits is None or card_input.is_plain_color:
        return
    least, most = form.limits
    for channel, (low, high) in enumerate(value_ranges(card_input)):
        mean, scale = card_input.mean[channel], card_input.scale[channel]
        is_outside = mean < least or min(mean + scale, high) > most + 1
        if is_outside or high - low < _FEWEST:
            raise OptionError(
                f"--input-type {form.type} holds whole numbers of {least} to {most}, and the model's channel {channel} "
                f"has values of {low:g} to {high:g}, by its mean and scale",
                "Use another --input-type: f32 takes all values.",
            )
