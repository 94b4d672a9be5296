"""How OpenVINO stores a float32 constant where an IR's weights are compressed to FP16.

It rounds the values to FP16, but leaves the constant in float32 where too much would be lost. Releases differ in that.
"""

from __future__ import annotations

from torch import Tensor

# OpenVINO's compress_float_constants.cpp; tests/test_tolerances.py compares with save_model.
_LARGEST, _SMALLEST = 65504.0, 2.0**-24  # FP16's, apart from 0
_LOST_SHARE = 0.75  # of the values: from this share on the constant stays in float32
_MOST_LOST = 1.0
_MOST_LOST_PART, _OF_ONE = 1e-3, 1e-4  # of a value; of a constant's only value


def stored_in_fp16(constant: Tensor, openvino: str) -> Tensor:
    """The float32 values that an FP16 IR has in place of `constant`; `openvino`: the release that saves it, `2024.6.0`.

    2024 counts a value as lost if it is out of FP16's range. Later releases also count those that FP16 changes by more
    than a thousandth, a ten-thousandth where the constant is a single value; and one value that FP16 changes by more
    than 1 is enough.
    """
    values = constant.float()
    sizes = values.abs()
    rounded = values.clamp(-_LARGEST, _LARGEST).half().float()
    is_lost = (sizes > _LARGEST) | ((sizes > 0) & (sizes < _SMALLEST))
    if not openvino.startswith("2024."):
        change = (rounded - values).abs()
        if (change[~is_lost] > _MOST_LOST).any():
            return values
        is_lost |= change > (_OF_ONE if values.numel() == 1 else _MOST_LOST_PART) * sizes
    return values if is_lost.float().mean() >= _LOST_SHARE else rounded
