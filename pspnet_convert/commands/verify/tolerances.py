"""How far a converted model's logits may be from the reference's at each precision, and why. Errors are relative."""

from __future__ import annotations

from dataclasses import dataclass

from pspnet_convert.runtimes.logit_error import Error, Precision, worst


@dataclass(frozen=True)
class Rounding:
    """How far rounding moves the reference's logits: of all inputs of a verification, on the one where it moves them
    most. `of_weights`: folded weights, and the mean, to FP16. `of_input`: the normalised image's two terms to float32.
    """

    of_weights: Error
    of_input: Error


# float32 has 24 bits: each rounding is off by up to 6e-8. Sixty layers that sum thousands of products in another order
# came to 1e-7 .. 2e-6: for the converted models, and also for PyTorch in float64 or with another memory layout.
F32 = Error(rms=1e-5, largest=3e-5)

# Where an image's values are far from 0 for their spread, more is lost: OpenVINO computes value/scale - mean/scale, and
# each of the two is rounded. This is measured as well.

# FP16 has 11 bits. How far rounded weights move the logits depends on the network (1e-4 .. 8e-3 were seen). So it is
# measured: the folded network runs the same images, made small, with rounded weights (pytorch/folded.py) and a rounded
# mean. The error of an IR was 0.5 .. 3.7 times the measured one in rms (3.7: ResNeSt-101), 3.6 times at the largest.
MARGIN = Error(rms=4, largest=8)

# A network that multiplies small errors, with random weights most of all, does so at float32 as well: there a rounding
# is 2**-13 of one to FP16, and all those of a run moved the logits 10 times as far as one of each weight.
_ALL_F32 = 10 * 2**-13

# At run time, activations are rounded too (2 times the error); bf16 has 8 bits, 3 fewer than FP16 (2**3 times).
_RUNTIME_FACTOR = {"f16": 2, "bf16": 2 * 2**3}


def allowed(precision: Precision, rounding: Rounding) -> Error:
    """The largest error allowed.

    `FP16`: FP16 weights in an IR that runs at f32. `f16` and `bf16`: what the runtime computes in. An `INT8` model may
    be as far as it is: `verify-int8` judges its labels.
    """
    if precision == "INT8":
        return Error(float("inf"), float("inf"))
    full = worst(F32, _times(1, rounding.of_input), _times(_ALL_F32, rounding.of_weights))
    return full if precision == "f32" else worst(full, _times(_RUNTIME_FACTOR.get(precision, 1), rounding.of_weights))


def _times(factor: float, measured: Error) -> Error:
    return Error(factor * MARGIN.rms * measured.rms, factor * MARGIN.largest * measured.largest)
