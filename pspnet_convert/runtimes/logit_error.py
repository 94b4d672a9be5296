"""The relative error of logits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Precision = Literal["f32", "FP16", "bf16", "f16", "INT8"]


@dataclass(frozen=True)
class Error:
    """`rms`: the differences' root mean square, divided by the expected logits'. `largest`: the same of the maxima.

    `rms` shows a fault that is small everywhere (a mean off by 1 %), `largest` one in few places (the padding of one
    layer).
    """

    rms: float
    largest: float

    def within(self, allowed: Error) -> bool:
        """False also if an error is NaN."""
        return self.rms <= allowed.rms and self.largest <= allowed.largest

    def as_dict(self) -> dict[str, float | None]:
        """Plain values for JSON; None for an error that is not finite."""
        return {name: value if np.isfinite(value) else None for name, value in asdict(self).items()}


def error_of(found: NDArray[np.float32], expected: NDArray[np.float32]) -> Error:
    """The error of logits `found` [classes, H, W] against `expected`; infinite if any of `found` is not finite."""
    difference = found - expected
    if not np.isfinite(difference).all():
        return Error(np.inf, np.inf)
    tiny = float(np.finfo(np.float32).tiny)
    return Error(rms(difference) / max(rms(expected), tiny), largest(difference) / max(largest(expected), tiny))


NO_ERROR = Error(0, 0)


def worst(*errors: Error) -> Error:
    return Error(max(error.rms for error in errors), max(error.largest for error in errors))


def rms(values: NDArray[np.floating[Any]]) -> float:
    """The root mean square of `values` [classes, H, W].

    Summed in float64, a class at a time: a copy of all of them would take longer than the sum.
    """
    squares = sum(float(np.vdot(part, part)) for part in (plane.astype(np.float64) for plane in values))
    return float(np.sqrt(squares / values.size))


def largest(values: NDArray[np.floating[Any]]) -> float:
    """The largest absolute value."""
    return max(float(values.max()), -float(values.min()))
