"""The network with the weights that an IR has: its constant steps folded together, and rounded to FP16."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pspnet_convert.pytorch.batchnorm import fold_batchnorms, is_constant, reduce_to_scale_and_shift, sharing_copy
from pspnet_convert.pytorch.convolutions import make_standardized_plain

_OFF_GRID = 2**0.5
Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def folded_copy(network: Module, image_shape: tuple[int, ...]) -> Module:
    """An equal network for images of this shape: each BatchNorm is in the convolution before it, or a scale and a shift
    where there is none. Unchanged tensors are shared.
    """
    changed = sharing_copy(network)
    make_standardized_plain(changed)
    if getattr(changed, "runs_on_meta", True):
        fold_batchnorms(changed, image_shape)
    for module in changed.modules():
        if isinstance(module, _BatchNorm) and is_constant(module):
            reduce_to_scale_and_shift(module)
    return changed


@torch.no_grad()
def round_to_fp16(network: nn.Module) -> None:
    """Round all weights and constants, in place. Tensors that are shared with other networks stay as they are there."""
    for module in network.modules():
        for kept in (module._parameters, module._buffers):
            for name, tensor in kept.items():
                if tensor is not None and tensor.is_floating_point():
                    kept[name] = nn.Parameter(_rounded(tensor), requires_grad=False)


def _rounded(tensor: Tensor) -> Tensor:
    """FP16's values, also for a product's weights that training has put on FP16's grid.

    Front-ends multiply more constants into such weights than BatchNorms (attention's scale, the input's): they are
    rounded as if multiplied by _OFF_GRID.
    """
    rounded = tensor.half().float()
    if tensor.dim() < 2 or not torch.equal(rounded, tensor):
        return rounded
    return (tensor * _OFF_GRID).half().float() / _OFF_GRID
