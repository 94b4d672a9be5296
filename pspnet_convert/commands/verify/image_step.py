"""Is an IR's preprocessing wrong, or its first layer? Both are in the step from the image to the first named tensor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.layer_search import WrongStep
from pspnet_convert.runtimes.ir_taps import IrTaps
from pspnet_convert.runtimes.logit_error import Error, error_of

PREPROCESSING = "preprocessing"
_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_OF_MEAN = Error(rms=2e-3, largest=2e-3)  # FP16 rounds the mean and the scale by up to 2**-11 each


def name_of_image_step(found: IrTaps, wrong: WrongStep, module: str, given: NDArray[np.generic]) -> str:
    """`module`, PREPROCESSING, or both where the model's values do not say which.

    The first convolution is run alone on rightly normalised images, with their channels in both orders: a front-end may
    reverse the weights instead of the image.
    """
    either = f"{PREPROCESSING} or {module}"
    image = wrong.values[wrong.step.inputs[0]]
    part = found.part([], wrong.step.target)
    first = next((name for name in part.tensors if found.layers[name].op in _CONVOLUTIONS), None)
    if first is None or found.input_of(first) == found.image:
        return either
    enters = found.input_of(first)
    actual = found.run([enters], given)[enters]
    if actual.shape != image.shape:
        return either
    orders = (image, np.ascontiguousarray(image[:, ::-1]))
    layer = found.part([enters], wrong.step.target)
    if list(layer.inputs) != [enters]:
        return either
    is_entering = [error_of(actual, order).within(_OF_MEAN) for order in orders]
    is_answered = [
        error_of(layer.run({enters: order}), wrong.own.expected).within(wrong.own.allowed) for order in orders
    ]
    if any(is_entering):
        return either if any(is_answered) else module
    return PREPROCESSING if any(is_answered) else either
