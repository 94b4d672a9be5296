"""Whether an INT8 model gives the same answers on processors without VNNI.

A product of two 8-bit numbers fills 16 bits. Without VNNI a processor adds two products in 16 bits, and cuts off what
does not fit (Intel's VPMADDUBSW saturates). With weights of 7 bits all sums fit: NNCF's overflow fix.
"""

from __future__ import annotations

from pspnet_convert.runtimes.backends import Prediction
from pspnet_convert.runtimes.logit_error import Error, error_of

OVERFLOW_FIX = "Quantize it with NNCF's overflow fix in all layers, as `pspnet-convert quantize` does."
# Saturation moved the logits by 8e-3 rms and more, float32's rounding by less than 1e-5.
_SAME = Error(rms=1e-3, largest=1e-2)


def overflow(capped: Prediction, uncapped: Prediction) -> str | None:
    """How an INT8 model's answer on a `capped` processor differs from that on this one; None if it does not."""
    error = error_of(capped.logits, uncapped.logits)
    if error.within(_SAME):
        return None
    share = float((capped.labels != uncapped.labels).mean())
    return (
        f"{share:.2%} of the labels are not those that it gives on this processor (logit error {error.rms:.1e} rms): "
        "its 8-bit sums overflow without VNNI"
    )
