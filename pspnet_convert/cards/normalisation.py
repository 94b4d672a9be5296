"""How a test pipeline and a data preprocessor change the values of an image. Its colours are BGR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pspnet_convert.cards.card import AS_STORED
from pspnet_convert.cards.config_parts import named_steps
from pspnet_convert.errors import CardError, count

_Values = tuple[float, ...]


@dataclass(frozen=True)
class Normalisation:
    """`(value - mean) / scale`, of the channels in `color_order`."""

    color_order: str
    mean: _Values
    scale: _Values

    def then(self, mean: Any, scale: Any, *, is_reversed: bool) -> Normalisation:
        """This, after it a reversal of three channels if `is_reversed`, and then `mean` and `scale`.

        mmsegmentation does not reverse another number of channels.
        """
        order, first_mean, first_scale = self.color_order, self.mean, self.scale
        if is_reversed and order != AS_STORED:
            order, first_mean, first_scale = order[::-1], first_mean[::-1], first_scale[::-1]
        channels = len(first_mean)
        given = _of_channels("mean", mean, channels), _of_channels("std", scale, channels)
        rows = list(zip(first_mean, first_scale, *given, strict=True))
        # ((x - m) / s - mean) / scale
        means = tuple(m + s * mean for m, s, mean, _ in rows)
        return Normalisation(order, means, tuple(s * scale for _, s, _, scale in rows))


def normalisation(
    pipeline: Sequence[Mapping[str, Any]], preprocessor: Mapping[str, Any], channels: int = 3
) -> Normalisation:
    """The steps Normalize of `pipeline`, then the arguments of a SegDataPreProcessor, for images of `channels`.

    Raises CardError for a mean or std of another number of values, TypeError or ValueError for values that are no
    numbers.
    """
    found = Normalisation("BGR" if channels == 3 else AS_STORED, (0,) * channels, (1,) * channels)
    for step in named_steps(pipeline, "Normalize"):
        found = found.then(step.get("mean"), step.get("std"), is_reversed=bool(step.get("to_rgb", True)))
    mean, scale = preprocessor.get("mean"), preprocessor.get("std")
    if mean is None:  # mmsegmentation then does not divide either
        mean, scale = 0, 1
    # mmsegmentation reads colours as BGR; either flag reverses the channels.
    is_reversed = bool(preprocessor.get("bgr_to_rgb") or preprocessor.get("rgb_to_bgr"))
    return found.then(mean, scale, is_reversed=is_reversed)


def _of_channels(name: str, value: Any, channels: int) -> list[float]:
    """A number for each channel. One number is for all of them, also in a list where they are colours."""
    numbers = list(value) if isinstance(value, (list, tuple)) else [value] * channels
    if len(numbers) == 1 and channels == 3:
        numbers *= channels
    if not all(isinstance(number, (int, float)) for number in numbers):
        raise ValueError(f"{name} {value!r} is not a number for each of {channels} channels")
    if len(numbers) != channels:
        has, takes = count(len(numbers), "value"), count(channels, "channel")
        raise CardError(
            f"the config's {name} has {has}, the network takes {takes}",
            "Give a value for each channel, or correct the backbone's in_channels.",
        )
    return numbers
