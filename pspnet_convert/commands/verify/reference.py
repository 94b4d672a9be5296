"""Run the reference on the inputs of a verification, and measure what faults and rounding do to its logits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify.conversion import Conversion
from pspnet_convert.commands.verify.inputs import VerificationInput
from pspnet_convert.commands.verify.kept_prediction import KeptPrediction, keep
from pspnet_convert.commands.verify.probes import probe
from pspnet_convert.commands.verify.rounding import (
    rounding_of_input,
    rounding_of_map_sums,
    rounding_of_sums,
    rounding_of_weights,
)
from pspnet_convert.commands.verify.sensitivity import sensitivity
from pspnet_convert.commands.verify.tolerances import Rounding
from pspnet_convert.runtimes.backends import Prediction, TorchBackend
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.logit_error import Error, Precision, worst

if TYPE_CHECKING:
    from torch import Tensor

    from pspnet_convert.pytorch.network import PSPNet


@dataclass(frozen=True)
class Expected:
    """The reference's `prediction` on an input.

    `sensitivity`: how far each small fault in the input moves the logits, by the fault's name. `in_fp16`: the answer of
    the network with its constants as an FP16 IR has them; None where it is not known how they are rounded.
    """

    prediction: Prediction | KeptPrediction
    sensitivity: Mapping[str, Error]
    rounding: Rounding
    in_fp16: Prediction | KeptPrediction | None = None


def expect(
    network: PSPNet,
    card: ModelCard,
    inputs: Sequence[VerificationInput],
    folder: Path,
    note: Callable[[], None],
    precisions: Collection[Precision] = ("f32", "FP16"),
    conversion: Conversion | None = None,
) -> list[Expected]:
    """Run the PyTorch reference on `inputs`; `note` is called after each. Logits are kept in `folder`; an OSError is
    that folder's.

    `precisions`: those of the models that will be compared. `conversion`: how the IRs were made, where this is known.
    """
    reference = TorchBackend(network, card.input)
    pictures = [entry.image for entry in inputs]
    with pools_in_float64(network):
        predictions = _kept(reference.run(pictures), folder, "reference", note)
        probes = probe(reference, pictures, folder)
        sensitivities = [sensitivity(reference, card.input, one) for one in probes]
        of_input = rounding_of_input(network, card.input, probes)
        of_maps = rounding_of_map_sums(network, card.input, pictures[0], predictions[0].logits)
        of_sums = worst(of_maps, rounding_of_sums(network, card.input, probes))
    in_fp16: Sequence[KeptPrediction | None] = [None] * len(inputs)
    if conversion is not None and "FP16" in precisions:
        in_fp16 = _in_fp16(network, card, pictures, conversion, folder) or in_fp16
    # The self-test of a bundle also has to know it, and takes it from `in_fp16` where that is there.
    is_needed = in_fp16[0] is None or {"f16", "bf16"} & set(precisions)
    of_weights = rounding_of_weights(network, card.input, probes, folder) if is_needed else None
    rounding = Rounding(of_sums, of_input, of_weights)
    parts = zip(predictions, sensitivities, in_fp16)
    return [Expected(prediction, moved, rounding, half) for prediction, moved, half in parts]


def _in_fp16(
    network: PSPNet, card: ModelCard, pictures: Sequence[Image], conversion: Conversion, folder: Path
) -> list[KeptPrediction] | None:
    """The answers of the network with its constants in FP16; None where it is not known how they are rounded."""
    from pspnet_convert.commands.verify.fp16_reference import fp16_reference

    shape = (card.input.channels, *pictures[0].shape[:2])
    rounded = fp16_reference(network, card.input, shape, conversion)
    return None if rounded is None else _kept(rounded.run(pictures), folder, "fp16")


def _kept(
    predictions: Iterable[Prediction], folder: Path, name: str, note: Callable[[], None] = lambda: None
) -> list[KeptPrediction]:
    kept = []
    for number, prediction in enumerate(predictions):
        kept.append(keep(prediction, folder / f"{name}-{number}.logits"))
        note()
    return kept


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
