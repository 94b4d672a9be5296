"""Run the reference on the inputs of a verification, and measure what faults and rounding do to its logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify.inputs import VerificationInput
from pspnet_convert.commands.verify.kept_prediction import KeptPrediction, keep
from pspnet_convert.commands.verify.rounding import rounding_of_input, rounding_of_weights
from pspnet_convert.commands.verify.sensitivity import sensitivity
from pspnet_convert.commands.verify.tolerances import Rounding
from pspnet_convert.errors import ImageError
from pspnet_convert.runtimes.backends import Prediction, TorchBackend
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.logit_error import Error

if TYPE_CHECKING:
    from torch import Tensor

    from pspnet_convert.pytorch.network import PSPNet

_PROBED_SIDE = 96  # pixels: full size takes twenty times as long, and the figures are the same within a factor of 2
_MULTIPLE = 16  # UNet needs sides that are multiples of 16; no other network needs more


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
    with pools_in_float64(network):
        for number, prediction in enumerate(reference.run(entry.image for entry in inputs)):
            predictions.append(keep(prediction, folder / f"{number}.logits"))
            note()
        images = _probes(reference, [entry.image for entry in inputs])
        sensitivities = [sensitivity(reference, card.input, image) for image in images]
        of_input = rounding_of_input(network, card.input, images)
    rounding = Rounding(rounding_of_weights(network, card.input, images, folder), of_input)
    return [Expected(*parts, rounding) for parts in zip(predictions, sensitivities)]


def _probes(reference: TorchBackend, images: Sequence[Image]) -> Sequence[Image]:
    """Smaller images with the same content; the images themselves for a network that takes one size (BEiT)."""
    thinned = [_thinned(image) for image in images]
    try:
        list(reference.run(thinned[:1]))
    except ImageError:
        return images
    return thinned


@contextmanager
def pools_in_float64(network: PSPNet) -> Iterator[None]:
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
