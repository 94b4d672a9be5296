"""Measure what it costs that runtimes add up the values of a whole map in float32, one after another.

GroupNorm and InstanceNorm do so for mean and variance. torch adds up in a better order, so that its own rounding does
not show how far a right model may be off: on a map of 256x256, ten times as far.
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

_LANES = 8  # values that a processor with AVX2 adds at once; ONNX Runtime's result is that of 8, OpenVINO's of 16


def norms_of_maps(network: nn.Module) -> list[nn.Module]:
    """The norms that compute mean and variance of each map, or group of maps, that they are given."""
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.GroupNorm)
        or (isinstance(module, (_BatchNorm, _InstanceNorm)) and module.running_mean is None)
    ]


@contextmanager
def added_one_by_one(network: nn.Module) -> Iterator[None]:
    """In the block, the norms of `network` add up as the runtimes do. The batch must be one image."""
    hooks = [norm.register_forward_hook(_again) for norm in norms_of_maps(network)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _again(norm: Any, given: tuple[Tensor, ...], _: Tensor) -> Tensor:
    maps = given[0]
    groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else maps.shape[1]
    values = maps.reshape(groups, -1).numpy()
    count = np.float32(values.shape[1])
    centred = values - (_sum(values) / count)[:, None]
    deviation = np.sqrt(_sum(centred * centred) / count + np.float32(norm.eps))
    result = torch.from_numpy(centred / deviation[:, None]).reshape(maps.shape)
    if norm.weight is None:
        return result
    return result * norm.weight[:, None, None] + norm.bias[:, None, None]


def _sum(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum of each row [rows, count], float32, with _LANES running sums."""
    padded = np.pad(values, ((0, 0), (0, -values.shape[1] % _LANES)))
    lanes = np.add.reduce(padded.reshape(len(values), -1, _LANES), axis=1)  # numpy adds along this axis one by one
    total: NDArray[np.float32] = lanes.sum(axis=1)
    return total
