"""The reference's answers, and how sharply each input would show a fault.

A comparison on inputs that move no logit proves nothing. So small faults are made in the inputs on purpose, and the
reference says how far its own logits move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify.inputs import VerificationInput
from pspnet_convert.runtimes.backends import Prediction, TorchBackend
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.logit_error import Error, error_of, worst

if TYPE_CHECKING:
    from pspnet_convert.pytorch.network import PSPNet

FINE_FAULTS = {"blue off by 1 of 255"}  # as where its mean is off by 1 %
_PROBED_SIDE = 96  # pixels: at full size the figures are the same within a factor of 2, at twenty times the price
_MULTIPLE = 16  # UNet's sides are, and those of no network need more


@dataclass(frozen=True)
class Expected:
    """The reference's `prediction` on an input; how far each small fault moves its logits there (`sensitivity`, by the
    fault's name), and how far rounding its weights to FP16 does (`rounding`, on the input where it does most)."""

    prediction: Prediction
    sensitivity: Mapping[str, Error]
    rounding: Error


def expect(
    network: PSPNet, card: ModelCard, inputs: Sequence[VerificationInput], note: Callable[[], None]
) -> list[Expected]:
    """The answers of the PyTorch reference; `note` is called for each."""
    import torch

    reference = TorchBackend(network, card)
    predictions = []
    for prediction in reference.run(entry.image for entry in inputs):
        predictions.append(prediction)
        note()
    images = [_probed(entry.image) for entry in inputs]
    known = [prediction.logits for prediction in reference.run(images)]
    sensitivity = [_moves(reference, *pair) for pair in zip(images, known)]
    rounded = {name: weight.half().float() for name, weight in network.named_parameters()}
    rounding = TorchBackend(lambda image: torch.func.functional_call(network, rounded, (image,)), card)
    roundings = [error_of(found.logits, logits) for found, logits in zip(rounding.run(images), known)]
    return [Expected(*parts, worst(*roundings)) for parts in zip(predictions, sensitivity)]


def _probed(image: Image) -> Image:
    """Every n-th row and m-th column, so that the sides are at most _PROBED_SIDE."""
    rows, columns = (_probed_places(side) for side in image.shape[:2])
    return image[rows][:, columns]


def _probed_places(side: int) -> range:
    """A side that the model takes as it is, stays; one that gets shorter, does so to what any network takes."""
    step = -(-side // _PROBED_SIDE)
    count = side if step == 1 else side // step // _MULTIPLE * _MULTIPLE
    return range(0, count * step, step)


def _moves(reference: TorchBackend, image: Image, logits: NDArray[np.float32]) -> dict[str, Error]:
    off_by_one = image.astype(np.float32) - np.array([1, 0, 0], np.float32)
    faults: dict[str, Image] = {
        "red and blue swapped": image[:, :, ::-1],
        "blue off by 1 of 255": off_by_one,
        "a shift by one pixel": image[:, [-1, *range(image.shape[1] - 1)]],
    }
    return {name: error_of(found.logits, logits) for name, found in zip(faults, reference.run(faults.values()))}
