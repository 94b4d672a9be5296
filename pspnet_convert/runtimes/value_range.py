"""The values that a model's images have, by mean and scale: for drawn images, and to choose the IR's number type."""

from __future__ import annotations

from pspnet_convert.cards.card import Input
from pspnet_convert.errors import OptionError
from pspnet_convert.runtimes.input_form import PLAIN, InputForm

_BYTE, _WORD = 255, 65535
_WHOLE = 8  # a deviation from which on the values are probably whole numbers
_DEVIATIONS = 2  # to both sides of the mean: where 19 of 20 values are

Range = tuple[float, float]


def value_ranges(card_input: Input, form: InputForm = PLAIN) -> list[Range]:
    """By channel, where most values are, among those that `form` holds: two deviations around the mean.

    Values that look like bytes or 16-bit numbers are not negative and not larger than those. Without normalisation
    they are bytes.
    """
    if set(card_input.mean) == {0} and set(card_input.scale) == {1}:
        return [(0, _BYTE)] * card_input.channels
    ranges = [_range(mean, scale) for mean, scale in zip(card_input.mean, card_input.scale)]
    if form.limits is None:
        return ranges
    least, most = form.limits
    return [(max(low, least), min(high, most)) for low, high in ranges]


def _range(mean: float, scale: float) -> Range:
    low, high = mean - _DEVIATIONS * scale, mean + _DEVIATIONS * scale
    if mean < 0 or scale < _WHOLE:
        return low, high
    most = _BYTE if mean <= _BYTE and scale <= _BYTE + 1 else _WORD
    return max(low, 0), (min(high, most) if mean <= most else high)


def check_type(card_input: Input, form: InputForm) -> None:
    """Raise OptionError if the number type of `form` does not hold the model's values."""
    if form.limits is None or card_input.is_plain_color:
        return
    wanted = value_ranges(card_input)
    for channel, (low, high) in enumerate(value_ranges(card_input, form)):
        if high - low < 1:
            text = "values of {:g} to {:g}, by its mean and scale".format(*wanted[channel])
            raise OptionError(
                f"--input-type {form.type} holds whole numbers of {form.limits[0]} to {form.limits[1]}, and the "
                f"model's channel {channel} has {text}",
                "Use another --input-type: f32 takes all values.",
            )
