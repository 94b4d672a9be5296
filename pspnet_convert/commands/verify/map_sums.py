"""Add up whole maps as the runtimes do: in float32, one value after another.

torch adds up in a better order, so that its own rounding does not show how far a right model may be off where a layer
needs the mean or the variance of a whole map. On a map of 256x256 a norm of OpenVINO's is off by 2e-4, torch's by 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from pspnet_convert.pytorch.network import PSPNet

# How many running sums there are. GroupNorm's values lie next to each other, and a processor with AVX2 adds eight at
# once. Of a single channel's values it may be one: OpenVINO adds up several channels at once instead.
_OF_GROUP, _OF_CHANNEL = 8, 1


def layers_of_maps(network: PSPNet) -> list[nn.Module]:
    """The layers that need the sum of a whole map. Not the pyramid: it is exported as a product of matrices."""
    pyramid = () if network.is_as_written else set(network.decode_head.modules())
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.GroupNorm)
        or (isinstance(module, (_BatchNorm, _InstanceNorm)) and module.running_mean is None)
        or (isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)) and module not in pyramid)
    ]


@contextmanager
def added_one_by_one(network: PSPNet) -> Iterator[None]:
    """In the block, those layers add up as the runtimes do. A batch must be one image."""
    hooks = [layer.register_forward_hook(_again) for layer in layers_of_maps(network)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _again(layer: Any, given: tuple[Tensor, ...], _: Tensor) -> Tensor:
    maps = given[0].numpy()[0]  # [channels, height, width]
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return torch.from_numpy(_mean(maps.reshape(len(maps), -1), _OF_CHANNEL)[None, :, None, None])
    is_grouped = isinstance(layer, nn.GroupNorm)
    values = maps.reshape(layer.num_groups if is_grouped else len(maps), -1)
    lanes = _OF_GROUP if is_grouped else _OF_CHANNEL
    centred = values - _mean(values, lanes)[:, None]
    deviation = np.sqrt(_mean(centred * centred, lanes) + np.float32(layer.eps))
    result = torch.from_numpy((centred / deviation[:, None]).reshape(1, *maps.shape))
    if layer.weight is None:
        return result
    return result * layer.weight[:, None, None] + layer.bias[:, None, None]


def _mean(values: NDArray[np.float32], lanes: int) -> NDArray[np.float32]:
    """The mean of each row [rows, count], float32."""
    rows, count = values.shape
    padded = np.pad(values, ((0, 0), (0, -count % lanes))).reshape(rows, -1, lanes)
    # numpy adds along the first axis one by one, and pairwise along the last.
    total: NDArray[np.float32] = np.add.reduce(np.ascontiguousarray(padded.swapaxes(0, 1)), axis=0).sum(axis=1)
    return total / np.float32(count)
