"""Measure how far rounding moves the reference's logits: of its sums and input to float32, of its weights to FP16."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import Input
from pspnet_convert.commands.verify.kept_prediction import keep
from pspnet_convert.commands.verify.probes import Probe
from pspnet_convert.runtimes.backends import TorchBackend, normalised
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.logit_error import NO_ERROR, Error, error_of, worst

if TYPE_CHECKING:
    from pspnet_convert.pytorch.network import PSPNet


def rounding_of_sums(network: PSPNet, card_input: Input, probes: Sequence[Probe]) -> Error:
    """What float32 costs: how far it moves the logits, on the probe where it moves them most.

    The network in float64 against itself in float32. The user's own code may compute in float32 whatever it is given,
    or refuse float64. There the float32 network is also run with another order of summation: channels last, and
    torch's own convolutions in place of oneDNN's.
    """
    found = [NO_ERROR]
    for other in _other_arithmetics(network):
        try:
            found += [error_of(other(normalised([one.image], card_input))[0], one.known.logits) for one in probes]
        except Exception:  # the network's code raises errors of any kind
            if not network.is_as_written:
                raise
    return worst(*found)


def rounding_of_map_sums(network: PSPNet, card_input: Input, image: Image, known: NDArray[np.float32]) -> Error:
    """How far the logits move from `known` if whole maps are added up as runtimes do it, which grows with the map.

    Without effect, and without a run, for a network that does not add up whole maps.
    """
    from pspnet_convert.commands.verify.map_sums import added_one_by_one, layers_of_maps

    if not layers_of_maps(network):
        return NO_ERROR
    with added_one_by_one(network):
        (found,) = TorchBackend(network, card_input).run([image])
    return error_of(found.logits, known)


def _other_arithmetics(network: PSPNet) -> Iterator[Callable[[NDArray[np.float32]], NDArray[np.float32]]]:
    """The network in float64; one with the user's own code also in other orders of summation."""
    import torch

    def run(changed: Any, image: Any) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = changed(image).float().contiguous().numpy()
        return logits

    def in_float64(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return run(double(), torch.from_numpy(values).double())

    def channels_last(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return run(network, torch.from_numpy(values).to(memory_format=torch.channels_last))

    def without_onednn(values: NDArray[np.float32]) -> NDArray[np.float32]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of Intel's GPUs
            with torch.backends.mkldnn.flags(enabled=False):
                return run(network, torch.from_numpy(values))

    double = cache(lambda: deepcopy(network).double())
    yield in_float64
    if network.is_as_written:
        yield from (channels_last, without_onednn)


def rounding_of_input(network: PSPNet, card_input: Input, probes: Sequence[Probe]) -> Error:
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
    found = other.run(one.image.astype(np.float32) * factor - term for one in probes)
    return worst(*(error_of(changed.logits, one.known.logits) for changed, one in zip(found, probes)))


def rounding_of_weights(network: PSPNet, card_input: Input, probes: Sequence[Probe], folder: Path) -> Error:
    """How far rounding folded weights and the input's mean to FP16 moves the logits, on the probe where it does most.

    An IR's weights are rounded after folding, which takes weights off FP16's grid if training has put them on it. The
    folded network is compared with itself: a fault of the folding must not widen the tolerance.
    """
    from pspnet_convert.pytorch.folded import folded_copy, round_to_fp16

    images = [one.image for one in probes]
    changed = folded_copy(network, (1, images[0].shape[2], *images[0].shape[:2]))
    found = TorchBackend(changed, card_input).run(images)
    exact = [keep(one, folder / f"folded-{number}.logits") for number, one in enumerate(found)]
    round_to_fp16(changed)
    if not card_input.needs_float32:
        mean = tuple(float(np.float16(value)) for value in card_input.mean)
        card_input = card_input.model_copy(update={"mean": mean})
    rounded = TorchBackend(changed, card_input).run(images)
    return worst(*(error_of(one.logits, known.logits) for one, known in zip(rounded, exact)))
