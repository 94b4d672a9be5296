"""How far a converted model's logits may be from the reference's at each precision, and why. Errors are relative."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pspnet_convert.runtimes.logit_error import NO_ERROR, Error, Precision, worst


@dataclass(frozen=True)
class Rounding:
    """How far rounding moves the reference's logits: of all inputs of a verification, on the one where it moves them
    most. `of_sums`: everything to float32; `of_input`: the normalised image's two terms to float32; `of_weights`:
    folded weights, and the mean, to FP16 (None where no comparison needs it).
    """

    of_sums: Error
    of_input: Error = NO_ERROR
    of_weights: Error | None = None


# float32 has 24 bits: each rounding is off by up to 6e-8. What all of them cost depends on the network (4e-7 to 3e-4
# were seen), so it is measured. Right models differ from the reference by 1.3 times that (the median), UNet and ResNeSt
# by up to 3.6 times in rms and 5.3 times at the largest: the probes are smaller than the images. With these factors the
# worst uses less than half. The distribution is in scripts/tolerance_study.md.
FACTOR = Error(rms=8, largest=12)

# Less than the first is no fault: a network that is as exact as this may still have a step that is not. More than the
# second is never allowed: the finest fault of those that are tried (sensitivity.py) moved the logits by 2e-3.
LEAST, MOST = Error(rms=2e-6, largest=6e-6), Error(rms=1e-3, largest=1e-3)

# Where the values are far from 0 for their spread, each runtime rounds the normalised image in its own way, and none is
# the right one: that may be more than the cap. Right IRs were off by up to 1.1 times as much.
INPUT_FACTOR = Error(rms=4, largest=8)

# FP16 has 11 bits. An FP16 IR of this tool's is held to the reference with its constants in FP16, at what is allowed at
# f32. Of one from elsewhere it is not known which constants were rounded: the folded network runs the same images, made
# small, with rounded weights (pytorch/folded.py) and a rounded mean. Right IRs were off by 0.3 to 3.7 times as much in
# rms (3.7: ResNeSt-101), by up to 3.6 times at the largest.
MARGIN = Error(rms=8, largest=8)

# At run time, activations are rounded too (2 times the error); bf16 has 8 bits, 3 fewer than FP16 (2**3 times).
RUNTIME_FACTOR: Mapping[Precision, int] = {"f16": 2, "bf16": 2 * 2**3}


def allowed_at_f32(rounding: Rounding) -> Error:
    """The largest error allowed of a model that computes in float32, against a reference with the same constants."""
    of_sums = _least(MOST, worst(LEAST, _times(FACTOR, rounding.of_sums)))
    return worst(of_sums, _times(INPUT_FACTOR, rounding.of_input))


def allowed(precision: Precision, rounding: Rounding) -> Error:
    """The largest error allowed, against the reference in float32.

    `FP16`: FP16 weights in an IR that runs at f32. `f16` and `bf16`: what the runtime computes in. An `INT8` model may
    be as far as it is: `verify-int8` judges its labels.
    """
    if precision == "INT8":
        return Error(float("inf"), float("inf"))
    full = allowed_at_f32(rounding)
    if precision == "f32":
        return full
    assert rounding.of_weights is not None, "it is measured for such a comparison"
    return worst(full, _times(MARGIN, rounding.of_weights, RUNTIME_FACTOR.get(precision, 1)))


def _times(factors: Error, measured: Error, more: float = 1) -> Error:
    return Error(more * factors.rms * measured.rms, more * factors.largest * measured.largest)


def _least(one: Error, other: Error) -> Error:
    return Error(min(one.rms, other.rms), min(one.largest, other.largest))
