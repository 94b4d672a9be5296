"""Run the reference, and measure how far small faults in each input move its logits.

A comparison proves nothing if a fault would not change the logits: these figures show whether it would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import Input, ModelCard
from pspnet_convert.commands.verify.inputs import VerificationInput
from pspnet_convert.commands.verify.tolerances import Rounding
from pspnet_convert.runtimes.backends import Prediction, TorchBackend
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.logit_error import Error, error_of, worst
from pspnet_convert.runtimes.value_range import value_ranges

if TYPE_CHECKING:
    from torch import Tensor

    from pspnet_convert.pytorch.network import PSPNet

_BLUE_OFF, _CHANNEL_OFF = "blue off by 1 of 255", "one channel off by a 255th of its range"
FINE_FAULTS = {_BLUE_OFF, _CHANNEL_OFF}  # the size of the fault if the mean is off by 1 %
_PROBED_CHANNELS = 16  # of a model with more, so many are probed, evenly spread
_PROBED_SIDE = 96  # pixels: full size takes twenty times as long, and the figures are the same within a factor of 2
_MULTIPLE = 16  # UNet needs sides that are multiples of 16; no other network needs more


@dataclass(frozen=True)
class KeptPrediction:
    """A prediction as `Prediction`, with its logits in a file: those of many inputs would fill the memory."""

    labels: NDArray[np.uint8]
    file: Path
    shape: tuple[int, ...]

    @property
    def logits(self) -> NDArray[np.float32]:
        """Read each time."""
        return np.fromfile(self.file, np.float32).reshape(self.shape)


@dataclass(frozen=True)
class Expected:
    """The reference's `prediction` on an input.

    `sensitivity`: how far each small fault in the input moves the logits, by the fault's name.
    """

    prediction: Prediction | KeptPrediction
    sensitivity: Mapping[str, Error]
    rounding: Rounding


def expect(
    network: PSPNet, card: ModelCard, inputs: Sequence[VerificationInput], folder: Path, note: Callable[[], None]
) -> list[Expected]:
    """Run the PyTorch reference on `inputs`; `note` is called after each. Logits are kept in `folder`; an OSError is
    that folder's."""
    reference = TorchBackend(network, card.input)
    predictions = []
    with _pools_in_float64(network):
        for number, prediction in enumerate(reference.run(entry.image for entry in inputs)):
            predictions.append(_keep(prediction, folder / f"{number}.logits"))
            note()
        images = _probes(reference, [entry.image for entry in inputs])
        sensitivity = [_sensitivity(reference, card.input, image) for image in images]
        of_input = _rounding_of_input(network, card.input, images)
    rounding = Rounding(_rounding_of_weights(network, card.input, images, folder), of_input)
    return [Expected(*parts, rounding) for parts in zip(predictions, sensitivity)]


def _keep(prediction: Prediction, file: Path) -> KeptPrediction:
    # np.save's OSError does not say that the disk is full.
    file.write_bytes(np.ascontiguousarray(prediction.logits).data)
    return KeptPrediction(prediction.labels.astype(np.uint8), file, prediction.logits.shape)


def _rounding_of_input(network: PSPNet, card_input: Input, images: Sequence[Image]) -> Error:
    """How far the logits move if value/scale - mean/scale is computed instead of (value - mean) / scale, in float32.

    Without effect where mean and scale are of one size.
    """
    if not card_input.needs_float32:
        return Error(0, 0)
    in_order = slice(None, None, -1 if card_input.color_order == "RGB" else 1)
    mean, scale = (np.array(values[in_order], np.float64) for values in (card_input.mean, card_input.scale))
    factor, term = (1 / scale).astype(np.float32), (mean / scale).astype(np.float32)
    plain = {"mean": (0.0,) * len(mean), "scale": (1.0,) * len(mean)}
    other = TorchBackend(network, card_input.model_copy(update=plain))
    found = other.run(image.astype(np.float32) * factor - term for image in images)
    exact = TorchBackend(network, card_input).run(images)
    return worst(*(error_of(one.logits, known.logits) for one, known in zip(found, exact)))


def _rounding_of_weights(network: PSPNet, card_input: Input, images: Sequence[Image], folder: Path) -> Error:
    """How far rounding folded weights and the input's mean to FP16 moves the logits, on the image where it does most.

    An IR's weights are rounded after folding, which takes weights off FP16's grid if training has put them on it. The
    folded network is compared with itself: a fault of the folding must not widen the tolerance.
    """
    from pspnet_convert.pytorch.folded import folded_copy, round_to_fp16

    changed = folded_copy(network, (1, images[0].shape[2], *images[0].shape[:2]))
    found = TorchBackend(changed, card_input).run(images)
    exact = [_keep(one, folder / f"folded-{number}.logits") for number, one in enumerate(found)]
    round_to_fp16(changed)
    if not card_input.needs_float32:
        mean = tuple(float(np.float16(value)) for value in card_input.mean)
        card_input = card_input.model_copy(update={"mean": mean})
    rounded = TorchBackend(changed, card_input).run(images)
    return worst(*(error_of(one.logits, known.logits) for one, known in zip(rounded, exact)))


def _probes(reference: TorchBackend, images: Sequence[Image]) -> Sequence[Image]:
    """Smaller images with the same content; the images themselves for a network that takes one size (BEiT)."""
    thinned = [_thinned(image) for image in images]
    try:
        list(reference.run(thinned[:1]))
    except Exception:  # the network's code raises errors of any kind
        return images
    return thinned


@contextmanager
def _pools_in_float64(network: PSPNet) -> Iterator[None]:
    """In the block, pools such as the pyramid's add up in float64.

    torch adds up a cell's values one by one in float32. On a map of 1024x1024 a cell of the bin 2 is off by 1.5e-5,
    more than a converted model may be.
    """
    from torch.nn import AdaptiveAvgPool2d
    from torch.nn.functional import adaptive_avg_pool2d

    def again(pool: Any, given: tuple[Tensor, ...], _: Tensor) -> Tensor:
        return adaptive_avg_pool2d(given[0].double(), pool.output_size).to(given[0].dtype)

    pools = [module for module in network.modules() if isinstance(module, AdaptiveAvgPool2d)]
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


def _sensitivity(reference: TorchBackend, card_input: Input, image: Image) -> dict[str, Error]:
    """How far each fault moves the logits. A fault that each channel can have counts where it moves them least."""
    (known,) = reference.run([image])
    found = {}
    for name, images in _faults(card_input, image):
        errors = [error_of(one.logits, known.logits) for one in reference.run(images)]
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
        steps = [(high - low) / 255 for low, high in value_ranges(card_input)]
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
