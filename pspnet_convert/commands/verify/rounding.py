"""Measure how far rounding moves the reference's logits: of its weights to FP16, of its input to float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pspnet_convert.cards.card import Input
from pspnet_convert.commands.verify.kept_prediction import keep
from pspnet_convert.runtimes.backends import TorchBackend
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.logit_error import Error, error_of, worst

if TYPE_CHECKING:
    from pspnet_convert.pytorch.network import PSPNet


def rounding_of_input(network: PSPNet, card_input: Input, images: Sequence[Image]) -> Error:
    """How far the logits move if value/scale - mean/scale is computed instead of (value - mean) / scale, in float32.

    Without effect where mean and scale are of one size.
    """
    if not card_input.needs_float32:
        return Error(0, 0)
    of_card = card_input.mean, card_input.scale
    mean, scale = (np.array(card_input.in_ir_order(values), np.float64) for values in of_card)
    factor, term = (1 / scale).astype(np.float32), (mean / scale).astype(np.float32)
    plain = {"mean": (0.0,) * len(mean), "scale": (1.0,) * len(mean)}
    other = TorchBackend(network, card_input.model_copy(update=plain))
    found = other.run(image.astype(np.float32) * factor - term for image in images)
    exact = TorchBackend(network, card_input).run(images)
    return worst(*(error_of(one.logits, known.logits) for one, known in zip(found, exact)))


def rounding_of_weights(network: PSPNet, card_input: Input, images: Sequence[Image], folder: Path) -> Error:
    """How far rounding folded weights and the input's mean to FP16 moves the logits, on the image where it does most.

    An IR's weights are rounded after folding, which takes weights off FP16's grid if training has put them on it. The
    folded network is compared with itself: a fault of the folding must not widen the tolerance.
    """
    from pspnet_convert.pytorch.folded import folded_copy, round_to_fp16

    changed = folded_copy(network, (1, images[0].shape[2], *images[0].shape[:2]))
    found = TorchBackend(changed, card_input).run(images)
    exact = [keep(one, folder / f"folded-{number}.logits") for number, one in enumerate(found)]
    round_to_fp16(changed)
    if not card_input.needs_float32:
        mean = tuple(float(np.float16(value)) for value in card_input.mean)
        card_input = card_input.model_copy(update={"mean": mean})
    rounded = TorchBackend(changed, card_input).run(images)
    return worst(*(error_of(one.logits, known.logits) for one, known in zip(rounded, exact)))
