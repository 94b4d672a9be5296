"""The reference of an FP16 IR that this tool made: the network with its constants rounded as that IR's are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pspnet_convert.cards.card import Input
from pspnet_convert.commands.verify.conversion import Conversion
from pspnet_convert.pytorch.fp16 import fp16_copy
from pspnet_convert.pytorch.fp16_constant import stored_in_fp16
from pspnet_convert.runtimes.backends import TorchBackend

if TYPE_CHECKING:
    from pspnet_convert.pytorch.network import PSPNet

# What was looked at: a front-end and OpenVINO's release. Another release may put the input's mean and scale elsewhere.
_MODEL_OPTIMIZER, _OVC_2024, _OVC_2026 = ("mo", "2024"), ("ovc", "2024"), ("ovc", "2026")


def fp16_reference(
    network: PSPNet, card_input: Input, image: Sequence[int], conversion: Conversion
) -> TorchBackend | None:
    """What gives the logits of a right FP16 IR for images [channels, height, width], up to float32's rounding.

    None where it is not known how that IR's constants are rounded: see pytorch/fp16.py, and the front-ends above.
    """
    step = _input_step(card_input, conversion)
    if step is None:
        return None
    scale = card_input.scale if isinstance(step, _Difference) and step.scale is None else None
    rounded = fp16_copy(
        network, image, conversion.openvino, fold_pyramid=conversion.fold_pyramid, divide_first_by=scale
    )
    if rounded is None:
        return None
    plain = {"mean": (0.0,) * card_input.channels, "scale": (1.0,) * card_input.channels}
    return TorchBackend(nn.Sequential(step, rounded), card_input.model_copy(update=plain))


def _input_step(card_input: Input, conversion: Conversion) -> nn.Module | None:
    """The IR's first step. Model Optimizer leaves a mean of 0 out; then it puts the scale into the first layer, as
    OpenVINO 2026 always does."""
    mean, scale = (torch.tensor(values, dtype=torch.float64) for values in (card_input.mean, card_input.scale))

    def stored(values: Tensor) -> Tensor:
        single = values.float()
        kept = single if card_input.needs_float32 else stored_in_fp16(single, conversion.openvino)
        return kept[None, :, None, None]

    match conversion.front_end, conversion.openvino.partition(".")[0]:
        case _ if not conversion.is_plain:
            return None
        case made if made == _MODEL_OPTIMIZER:
            return _Sum(stored(1 / scale), stored(-mean / scale)) if mean.any() else _Difference(stored(mean))
        case made if made == _OVC_2024:
            return _Difference(stored(mean), stored(scale))
        case made if made == _OVC_2026:
            return _Difference(stored(mean))
    return None


class _Sum(nn.Module):
    """image * factor + term. Both are [1, channels, 1, 1]."""

    def __init__(self, factor: Tensor, term: Tensor) -> None:
        super().__init__()
        self.factor, self.term = factor, term

    def forward(self, image: Tensor) -> Tensor:
        return image * self.factor + self.term


class _Difference(nn.Module):
    """(image - mean) / scale, each [1, channels, 1, 1]; no scale if it is in the first layer."""

    def __init__(self, mean: Tensor, scale: Tensor | None = None) -> None:
        super().__init__()
        self.mean, self.scale = mean, scale

    def forward(self, image: Tensor) -> Tensor:
        moved = image - self.mean
        return moved if self.scale is None else moved / self.scale
