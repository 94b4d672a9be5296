"""The golden cases of a bundle's self-test: the reference's margins as bytes, and what is allowed at each precision.

A golden case is three files of the folder `verification`:

- `<input>.input.png`; for images that are no pictures `<input>.input.npy`
- `<input>.reference.png`: the reference's label map
- `<input>.margin.png`: its margins, as bytes in the form of selftest.py

With another number of threads of the reference, a few of these bytes may be one more or less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.tolerances import MARGIN, RUNTIME_FACTOR, allowed
from pspnet_convert.manifest_fields import GoldenTolerance
from pspnet_convert.runtimes.logit_error import error_of, largest, rms, worst
from pspnet_convert.selftest import margin_bytes

if TYPE_CHECKING:
    from pspnet_convert.commands.verify.reference import Expected


def margin(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each pixel's best logit minus its second best: [classes, ...] to [...]."""
    best, second = np.maximum(logits[0], logits[1]), np.minimum(logits[0], logits[1])
    for plane in logits[2:]:  # np.partition takes 16 times as long
        np.maximum(second, np.minimum(best, plane), out=second)
        np.maximum(best, plane, out=best)
    difference: NDArray[np.float32] = best - second
    return difference


def golden_margins(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The margins of an image's logits [classes, H, W], as bytes [H, W]."""
    found: NDArray[np.uint8] = margin_bytes(margin(logits), largest(logits))
    return found


def golden_tolerances(expected: Sequence[Expected]) -> dict[str, GoldenTolerance]:
    """What is allowed at each precision, for the reference's answers to a verification's inputs.

    Two logits that are each off by at most e can change places where they are within 2 e. e is what tolerances.py
    allows. An FP16 IR whose constants are known is off by what they move the logits, and by what is allowed at f32.
    """
    rounding, halves = expected[0].rounding, [one for one in expected if one.in_fp16 is not None]
    full = allowed("f32", rounding).largest
    found = {"f32": _tolerance(full, "what float32 costs this network, as it was measured")}
    if halves:
        moved = worst(*(error_of(one.in_fp16.logits, one.prediction.logits) for one in halves if one.in_fp16))
        rounding = replace(rounding, of_weights=moved)
        words = "how far these constants in FP16 move the logits, and what float32 costs"
        found["FP16"] = _tolerance(full + moved.largest, words)
    elif rounding.of_weights is not None:
        words = f"{MARGIN.largest:g} times the effect of weights in FP16, measured on small images"
        found["FP16"] = _tolerance(allowed("FP16", rounding).largest, words)
    if rounding.of_weights is not None:
        size = max(_rms_as_share(one.prediction.logits) for one in expected)
        for precision, factor in RUNTIME_FACTOR.items():
            limit = allowed(precision, rounding)
            words = (
                f"{factor * MARGIN.largest:g} times the effect of weights in FP16, since activations are rounded too"
            )
            found[precision] = _tolerance(limit.largest, words, math.sqrt(2) * limit.rms * size)
    return found


def _tolerance(error: float, why: str, spread: float | None = None) -> GoldenTolerance:
    return GoldenTolerance(margin=2 * error, spread=spread, why=f"twice the error allowed of a logit: {why}")


def _rms_as_share(logits: NDArray[np.float32]) -> float:
    """The logits' root mean square, as a share of the largest."""
    most = largest(logits)
    return rms(logits) / most if most else 0.0
