"""How far a converted model's logits may be from the reference's, at each precision, and why.

An error is always relative to the logits it is an error of; what is done about it is verify.py's business.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, Optional

import numpy as np
from numpy.typing import NDArray

Precision = Literal["f32", "FP16", "bf16", "f16"]


@dataclass(frozen=True)
class Error:
    """Of logits: the root mean square, relative to theirs, and the largest, relative to the largest of them.

    The first shows a fault that is small everywhere (a mean off by 1 %), the second one that is in few places
    (the padding of one layer).
    """

    rms: float
    largest: float

    def within(self, allowed: Error) -> bool:
        """False also where an error is not a number."""
        return self.rms <= allowed.rms and self.largest <= allowed.largest

    def as_dict(self) -> dict[str, Optional[float]]:
        """Plain values for JSON, which has no infinity."""
        return {name: value if np.isfinite(value) else None for name, value in asdict(self).items()}


def error_of(found: NDArray[np.float32], expected: NDArray[np.float32]) -> Error:
    """Of logits `found`, [classes, H, W], where `expected` are right; infinite where one of `found` is not finite."""
    difference = found - expected
    if not np.isfinite(difference).all():
        return Error(np.inf, np.inf)
    tiny = float(np.finfo(np.float32).tiny)
    return Error(_rms(difference) / max(_rms(expected), tiny), _largest(difference) / max(_largest(expected), tiny))


NO_ERROR = Error(0, 0)


def worst(*errors: Error) -> Error:
    return Error(max(error.rms for error in errors), max(error.largest for error in errors))


# float32 has 24 bits, 6e-8 a rounding. Sixty layers that sum thousands of products in another order come to 1e-7 ..
# 2e-6, PyTorch against itself in float64 or with another memory layout as much as against the converted models.
F32 = Error(rms=1e-5, largest=3e-5)

# FP16 has 11 bits. How far rounded weights move the logits is the network's own affair (2e-4 .. 2e-3 were seen), so
# it is measured: the reference's weights are rounded, and its logits on the same images compared. The IR rounds the
# weights after folding, which came to 1 .. 2.5 times that.
_OVER_MEASURED = Error(rms=4, largest=8)

# bf16 has 8 bits, 3 fewer than FP16, and at run time activations are rounded as well as weights.
_RUNTIME = {"f16": 2, "bf16": 2 * 2**3}


def allowed(precision: Precision, rounding: Error) -> Error:
    """`rounding` is what rounding the reference's weights to FP16 does to its logits.

    `FP16` are weights in an IR that runs at f32; `f16` and `bf16` are what the runtime computes in.
    """
    if precision == "f32":
        return F32
    times = _RUNTIME.get(precision, 1)
    return worst(
        F32, Error(times * _OVER_MEASURED.rms * rounding.rms, times * _OVER_MEASURED.largest * rounding.largest)
    )


def _rms(values: NDArray[np.float32]) -> float:
    """In float64, a class at a time: of all at once it is the copy that takes the time."""
    squares = sum(float(np.vdot(part, part)) for part in (plane.astype(np.float64) for plane in values))
    return float(np.sqrt(squares / values.size))


def _largest(values: NDArray[np.float32]) -> float:
    return max(float(values.max()), -float(values.min()))
