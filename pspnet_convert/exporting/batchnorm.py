"""Fold each BatchNorm of a network in eval mode into the convolution before it: the same function, fewer steps.

In eval mode BatchNorm is y = (x - mean) / sqrt(variance + eps) * gain + shift (Ioffe and Szegedy 2015,
arXiv:1502.03167), which a convolution can do itself. Computed in float64, then cast.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any, Optional, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Module = TypeVar("Module", bound=nn.Module)


def folded_weights(conv: nn.Conv2d, norm: Optional[_BatchNorm]) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of a convolution that does what `conv` and then `norm` do."""
    weight = conv.weight.double()
    bias = conv.bias.double() if conv.bias is not None else weight.new_zeros(weight.shape[0])
    if norm is None:
        return weight, bias
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return weight * gain[:, None, None, None], (bias - norm.running_mean.double()) * gain + norm.bias.double()


def fold_batchnorms(network: nn.Module, image_shape: tuple[int, ...]) -> None:
    """Change `network` in place; its convolutions get weights of their own. Images are of `image_shape`."""
    pairs = _pairs(network, image_shape)
    parents = {child: (parent, name) for parent in network.modules() for name, child in parent._modules.items()}
    for norm, conv in pairs.items():
        weight, bias = folded_weights(conv, norm)
        conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
        conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)
        parent, name = parents[norm]
        parent._modules[name] = nn.Identity()


def run_on_meta(network: nn.Module, image_shape: tuple[int, ...]) -> Any:
    """What `network` returns for images of this shape, without values: only shapes, at no cost."""
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    on_meta = {name: tensor.to("meta") for name, tensor in tensors}
    return torch.func.functional_call(network, on_meta, (torch.empty(image_shape, device="meta"),))


def sharing_copy(network: Module) -> Module:
    """A copy whose tensors are the original's own."""
    shared = {id(tensor): tensor for tensor in itertools.chain(network.parameters(), network.buffers())}
    return copy.deepcopy(network, shared)


def _pairs(network: nn.Module, image_shape: tuple[int, ...]) -> dict[_BatchNorm, nn.Conv2d]:
    """Each BatchNorm with the convolution whose result it takes, as seen in a run."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # holds the tensors, so that no two have the same id
    pairs: dict[_BatchNorm, nn.Conv2d] = {}

    def watch(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made[id(result)] = module, result
        elif isinstance(module, _BatchNorm) and id(given[0]) in made:
            pairs[module] = made[id(given[0])][0]

    watched = [module for module in network.modules() if isinstance(module, (nn.Conv2d, _BatchNorm))]
    hooks = [module.register_forward_hook(watch) for module in watched]
    try:
        run_on_meta(network, image_shape)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs
