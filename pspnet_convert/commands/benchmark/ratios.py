"""How many times as fast one model is as another, when both took turns on a machine that may be busy.

A ratio is taken within each round, where both met the same noise. How far the median of n ratios may be off is
1.57 x (upper quartile - lower quartile) / sqrt(n): the notch of R. McGill, J. W. Tukey and W. A. Larsen, Variations of
Box Plots, The American Statistician 32 (1978), about 95 % confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.errors import count

LARGEST_ERROR = 0.05  # of a ratio; above, the machine was too busy
LEAST_ROUNDS, MOST_ROUNDS = 5, 30  # of --rounds auto
_SHOWING_A_SPREAD = 3  # rounds


@dataclass(frozen=True)
class Rounds:
    """How many rounds to run: `least`, and more until the ratios are known to LARGEST_ERROR, at most `most`."""

    least: int
    most: int

    @property
    def is_auto(self) -> bool:
        return self.least < self.most

    @classmethod
    def of(cls, asked: int) -> Rounds:
        """`asked`: a number; 0 for --rounds auto."""
        return cls(asked, asked) if asked else cls(LEAST_ROUNDS, MOST_ROUNDS)


@dataclass(frozen=True)
class Ratio:
    """`median` of the rounds, their lower and upper quartile, and how far the median may be off, as a part of it."""

    median: float
    quartiles: tuple[float, float]
    error: float


def ratio(baseline: NDArray[np.float64], seconds: NDArray[np.float64]) -> Ratio:
    """How many times as fast as `baseline` a model is; both: its seconds in each round, [rounds]."""
    low, middle, high = (float(one) for one in np.quantile(baseline / seconds, (0.25, 0.5, 0.75)))
    return Ratio(middle, (low, high), 1.57 * (high - low) / len(seconds) ** 0.5 / middle)


def is_settled(ratios: Sequence[Ratio]) -> bool:
    """Whether all are known to LARGEST_ERROR."""
    return all(one.error <= LARGEST_ERROR for one in ratios)


def remark(ratios: Sequence[tuple[str, Ratio]], rounds: int, *, is_auto: bool = False) -> str | None:
    """What the reader must know of `ratios` (name of the model, ratio) after so many rounds; None: they are good.

    `is_auto`: whether they were as many as --rounds auto takes.
    """
    if rounds < _SHOWING_A_SPREAD:
        return f"{count(rounds, 'round')} cannot show how far the ratios are off: say --rounds auto"
    wide = sorted(((one.error, name) for name, one in ratios if one.error > LARGEST_ERROR), reverse=True)
    if not wide:
        return None
    error, name = wide[0]
    advice = "Wait until it is idle" + ("." if is_auto or rounds >= MOST_ROUNDS else ", or say --rounds auto.")
    return (
        f"the machine was too busy: {len(wide)} of {len(ratios)} ratios may be off by more than "
        f"{LARGEST_ERROR:.0%}, that of {name} by {error:.0%}. {advice}"
    )
