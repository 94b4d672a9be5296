"""Is an IR's preprocessing wrong, or its first layer? Both are in the step from the image to the first named tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import Input
from pspnet_convert.commands.verify.layer_search import WrongStep
from pspnet_convert.runtimes.ir_taps import IrTaps
from pspnet_convert.runtimes.layer_taps import Part
from pspnet_convert.runtimes.logit_error import Error, error_of

PREPROCESSING = "preprocessing"
_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_OF_MEAN = Error(rms=2e-3, largest=2e-3)  # FP16 rounds the mean and the scale by up to 2**-11 each

_OF_CHANNEL = 3  # times what is allowed: a channel's part of the sum is smaller than the sum, its rounding is not


def name_of_image_step(
    found: IrTaps, wrong: WrongStep, module: str, given: NDArray[np.generic], card_input: Input
) -> str:
    """`module`, PREPROCESSING, or both where the model's values do not say which.

    The first convolution is run alone on what it may be given in a right model. Front-ends reverse the channels in its
    weights, and may divide these by the scale.
    """
    either = f"{PREPROCESSING} or {module}"
    image = wrong.values[wrong.step.inputs[0]]
    part = found.part([], wrong.step.target)
    first = next((name for name in part.tensors if found.layers[name].op in _CONVOLUTIONS), None)
    if first is None or found.input_of(first) == found.image:
        return either
    enters = found.input_of(first)
    actual = found.run([enters], given)[enters]
    layer = found.part([enters], wrong.step.target)
    if actual.shape != image.shape or list(layer.inputs) != [enters]:
        return either
    scale = np.array(card_input.scale, np.float32).reshape(1, -1, 1, 1)
    right_ones = [np.ascontiguousarray(one[:, ::step]) for one in (image, image * scale) for step in (1, -1)]
    is_entering = [error_of(actual, one).within(_OF_MEAN) for one in right_ones]
    answers = [error_of(layer.run({enters: one}), wrong.own.expected) for one in right_ones]
    is_layer_right = any(answer.within(wrong.own.allowed) for answer in answers)
    if not any(is_entering):
        return PREPROCESSING if is_layer_right else either
    is_scale_in_weights = not any(is_entering[:2])
    if is_layer_right or (is_scale_in_weights and _is_another_scale(layer, enters, wrong, image, right_ones[2:])):
        return either
    return module


def _is_another_scale(
    layer: Part,
    enters: str,
    wrong: WrongStep,
    image: NDArray[np.float32],
    right_ones: Sequence[NDArray[np.float32]],
) -> bool:
    """Whether the layer does the right thing with each channel, times a factor: another scale in its weights.

    `right_ones`: what enters the layer in a right model, with its channels in either order.
    """
    step = wrong.step.rounded or wrong.step.exact
    (name,) = wrong.step.inputs
    allowed = wrong.own.allowed
    limit = Error(_OF_CHANNEL * allowed.rms, _OF_CHANNEL * allowed.largest)
    base, right_base = layer.run({enters: 0 * image}), step.run({name: 0 * image})

    def is_proportional(entering: NDArray[np.float32], channel: int, place: int) -> bool:
        """`channel` of the image is at `place` in what enters."""
        response = layer.run({enters: _alone(entering, place)}) - base
        expected = step.run({name: _alone(image, channel)}) - right_base
        factor = np.vdot(response, expected) / max(np.vdot(expected, expected), np.finfo(np.float32).tiny)
        return error_of(response, factor * expected).within(limit)

    channels = range(image.shape[1])
    return any(
        all(is_proportional(entering, channel, place) for channel, place in zip(channels, places))
        for entering, places in zip(right_ones, (channels, channels[::-1]))
    )


def _alone(tensor: NDArray[np.float32], channel: int) -> NDArray[np.float32]:
    kept = np.zeros_like(tensor)
    kept[:, channel] = tensor[:, channel]
    return kept
