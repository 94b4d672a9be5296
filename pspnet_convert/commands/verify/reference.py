"""Run the reference, and measure how far small faults in each input move its logits.

A comparison proves nothing if a fault would not change the logits: these figures show whether it would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify.inputs import VerificationInput
from pspnet_convert.runtimes.backends import Prediction, TorchBackend
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.logit_error import Error, error_of, worst

if TYPE_CHECKING:
    from torch import Tensor

    from pspnet_convert.pytorch.network import PSPNet

FINE_FAULTS = {"blue off by 1 of 255"}  # the size of the fault if the mean is off by 1 %
_PROBED_SIDE = 96  # pixels: full size takes twenty times as long, and the figures are the same within a factor of 2
_MULTIPLE = 16  # UNet needs sides that are multiples of 16; no other network needs more


@dataclass(frozen=True)
class Expected:
    """The reference's `prediction` on an input.

    `sensitivity`: how far each small fault in the input moves the logits, by the fault's name. `rounding`: how far
    rounding the weights to FP16 moves them, on the input where it moves them most.
    """

    prediction: Prediction
    sensitivity: Mapping[str, Error]
    rounding: Error


def expect(
    network: PSPNet, card: ModelCard, inputs: Sequence[VerificationInput], note: Callable[[], None]
) -> list[Expected]:
    """Run the PyTorch reference on `inputs`; `note` is called after each."""
    import torch

    rounded = {name: weight.half().float() for name, weight in network.named_parameters()}
    reference = TorchBackend(network, card)
    rounding = TorchBackend(lambda image: torch.func.functional_call(network, rounded, (image,)), card)
    predictions = []
    with _pools_in_float64(network):
        for prediction in reference.run(entry.image for entry in inputs):
            predictions.append(prediction)
            note()
        images = [_thinned(entry.image) for entry in inputs]
        known = [prediction.logits for prediction in reference.run(images)]
        sensitivity = [_sensitivity(reference, *pair) for pair in zip(images, known)]
        roundings = [error_of(found.logits, logits) for found, logits in zip(rounding.run(images), known)]
    return [Expected(*parts, worst(*roundings)) for parts in zip(predictions, sensitivity)]


@contextmanager
def _pools_in_float64(network: PSPNet) -> Iterator[None]:
    """In the block the pyramid's pools add up in float64.

    torch adds up a cell's values one by one in float32. On a map of 1024x1024 a cell of the bin 2 is off by 1.5e-5,
    more than a converted model may be.
    """
    from torch.nn import AdaptiveAvgPool2d
    from torch.nn.functional import adaptive_avg_pool2d

    def again(pool: Any, given: tuple[Tensor, ...], _: Tensor) -> Tensor:
        return adaptive_avg_pool2d(given[0].double(), pool.output_size).to(given[0].dtype)

    pools = [module for module in network.decode_head.modules() if isinstance(module, AdaptiveAvgPool2d)]
    hooks = [pool.register_forward_hook(again) for pool in pools]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _thinned(image: Image) -> Image:
    """Every n-th row and m-th column, so that the sides are at most _PROBED_SIDE."""
    rows, columns = (_kept_places(side) for side in image.shape[:2])
    return image[rows][:, columns]


def _kept_places(side: int) -> range:
    """All places of a short side; else every n-th, a multiple of _MULTIPLE of them."""
    step = -(-side // _PROBED_SIDE)
    count = side if step == 1 else side // step // _MULTIPLE * _MULTIPLE
    return range(0, count * step, step)


def _sensitivity(reference: TorchBackend, image: Image, logits: NDArray[np.float32]) -> dict[str, Error]:
    off_by_one = image.astype(np.float32) - np.array([1, 0, 0], np.float32)
    faults: dict[str, Image] = {
        "red and blue swapped": image[:, :, ::-1],
        "blue off by 1 of 255": off_by_one,
        "a shift by one pixel": image[:, [-1, *range(image.shape[1] - 1)]],
    }
    return {name: error_of(found.logits, logits) for name, found in zip(faults, reference.run(faults.values()))}
