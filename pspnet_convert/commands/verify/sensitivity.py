"""Measure how far small faults in an input move the reference's logits.

A comparison proves nothing if a fault would not change the logits: these figures show whether it would.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pspnet_convert.cards.card import Input
from pspnet_convert.commands.verify.probes import Probe
from pspnet_convert.runtimes.backends import TorchBackend
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.logit_error import Error, error_of
from pspnet_convert.runtimes.value_range import ranges_of_ir

_BLUE_OFF, _CHANNEL_OFF = "blue off by 1 of 255", "one channel off by a 255th of its range"
FINE_FAULTS = {_BLUE_OFF, _CHANNEL_OFF}  # the size of the fault if the mean is off by 1 %
_PROBED_CHANNELS = 16  # of a model with more, so many are probed, evenly spread


def sensitivity(reference: TorchBackend, card_input: Input, probe: Probe) -> dict[str, Error]:
    """How far each fault moves the logits. A fault that each channel can have counts where it moves them least."""
    known, found = probe.known.logits, {}
    for name, images in _faults(card_input, probe.image):
        errors = [error_of(one.logits, known) for one in reference.run(images)]
        # A channel that the network does not read moves nothing, and cannot be wrong.
        moved = [error for error in errors if error.largest > 0] or errors
        found[name] = Error(min(error.rms for error in moved), min(error.largest for error in moved))
    return found


def _faults(card_input: Input, image: Image) -> Iterator[tuple[str, Iterator[Image]]]:
    """Each fault's name, and the images that have it: several where each channel can have it."""
    if card_input.is_plain_color:
        yield "red and blue swapped", iter([image[:, :, ::-1]])
        yield _BLUE_OFF, iter([image.astype(np.float32) - np.array([1, 0, 0], np.float32)])
    else:
        channels = range(card_input.channels)
        probed = channels[:: -(-len(channels) // _PROBED_CHANNELS)]
        steps = [(high - low) / 255 for low, high in ranges_of_ir(card_input)]
        if len(channels) > 1:
            yield "two channels swapped", (_swapped(image, channel) for channel in probed)
        yield _CHANNEL_OFF, (_off(image, channel, steps[channel]) for channel in probed)
    yield "a shift by one pixel", iter([image[:, [-1, *range(image.shape[1] - 1)]]])


def _swapped(image: Image, channel: int) -> Image:
    """With `channel` and its neighbour swapped."""
    order = np.arange(image.shape[2])
    other = channel + 1 if channel + 1 < len(order) else channel - 1
    order[[channel, other]] = other, channel
    return image[:, :, order]


def _off(image: Image, channel: int, step: float) -> Image:
    off = image.astype(np.float32)
    off[:, :, channel] -= np.float32(step)
    return off
