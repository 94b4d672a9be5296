"""What a test pipeline and a data preprocessor make of the values of a BGR image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pspnet_convert.cards.config_parts import named_steps

_Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """`(colour - mean) / scale`, of the channels in `color_order`."""

    color_order: str = "BGR"
    mean: _Triple = (0, 0, 0)
    scale: _Triple = (1, 1, 1)

    def then(self, mean: Any, scale: Any, *, is_reversed: bool) -> Normalisation:
        """This, after it a reversal of the channels if `is_reversed`, and then `mean` and `scale`."""
        order, first_mean, first_scale = self.color_order, self.mean, self.scale
        if is_reversed:
            order, first_mean, first_scale = order[::-1], first_mean[::-1], first_scale[::-1]
        rows = list(zip(first_mean, first_scale, _triple(mean), _triple(scale), strict=True))
        # ((x - m) / s - mean) / scale
        means = [m + s * mean for m, s, mean, _ in rows]
        scales = [s * scale for _, s, _, scale in rows]
        return Normalisation(order, (means[0], means[1], means[2]), (scales[0], scales[1], scales[2]))


def normalisation(pipeline: Sequence[Mapping[str, Any]], preprocessor: Mapping[str, Any]) -> Normalisation:
    """The steps Normalize of `pipeline`, then the arguments of a SegDataPreProcessor.

    Raises TypeError or ValueError for a mean or scale that is not of one or three numbers.
    """
    found = Normalisation()
    for step in named_steps(pipeline, "Normalize"):
        found = found.then(step.get("mean"), step.get("std"), is_reversed=bool(step.get("to_rgb", True)))
    mean, scale = preprocessor.get("mean"), preprocessor.get("std")
    if mean is None:  # mmsegmentation then does not divide either
        mean, scale = 0, 1
    # mmsegmentation reads images as BGR; either flag reverses the channels.
    is_reversed = bool(preprocessor.get("bgr_to_rgb") or preprocessor.get("rgb_to_bgr"))
    return found.then(mean, scale, is_reversed=is_reversed)


def _triple(value: Any) -> list[float]:
    """One number is for all three channels."""
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(number, (int, float)) for number in numbers) or len(numbers) not in (1, 3):
        raise ValueError(f"{value!r} is not a number for each of three channels")
    return numbers * 3 if len(numbers) == 1 else numbers
