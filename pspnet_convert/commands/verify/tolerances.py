"""How far a converted model's logits may be from the reference's, at each precision, and why.

An error is always relative to the logits it is an error of; what is done about it is verify.py's business.
"""

from __future__ import annotations

from pspnet_convert.runtimes.logit_error import Error, Precision, worst

# float32 has 24 bits, 6e-8 a rounding. Sixty layers that sum thousands of products in another order come to 1e-7 ..
# 2e-6, PyTorch against itself in float64 or with another memory layout as much as against the converted models.
F32 = Error(rms=1e-5, largest=3e-5)

# FP16 has 11 bits. How far rounded weights move the logits is the network's own affair (2e-4 .. 2e-3 were seen), so
# it is measured: the reference's weights are rounded, and its logits on the same images compared. The IR rounds the
# weights after folding, which came to 1 .. 2.5 times that.
FP16_MARGIN = Error(rms=4, largest=8)

# bf16 has 8 bits, 3 fewer than FP16, and at run time activations are rounded as well as weights.
_RUNTIME = {"f16": 2, "bf16": 2 * 2**3}


def allowed(precision: Precision, rounding: Error) -> Error:
    """`rounding` is what rounding the reference's weights to FP16 does to its logits.

    `FP16` are weights in an IR that runs at f32; `f16` and `bf16` are what the runtime computes in.
    """
    if precision == "f32":
        return F32
    times = _RUNTIME.get(precision, 1)
    return worst(F32, Error(times * FP16_MARGIN.rms * rounding.rms, times * FP16_MARGIN.largest * rounding.largest))
