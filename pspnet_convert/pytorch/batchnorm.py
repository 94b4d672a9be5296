"""Fold each BatchNorm of a network in eval mode into the convolution before it: the same function, fewer steps.

In eval mode BatchNorm is y = (x - mean) / sqrt(variance + eps) * gain + shift (Ioffe and Szegedy 2015,
arXiv:1502.03167): a scale and a shift, which the convolution's weights and bias can contain. Computed in float64, then
cast. A BatchNorm that cannot be folded stays.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pspnet_convert.pytorch.convolutions import has_hooks, is_plain

Module = TypeVar("Module", bound=nn.Module)


def is_constant(norm: nn.Module | None) -> bool:
    """Whether `norm` is a BatchNorm that does no more, with stored statistics; without them it computes those of each
    batch."""
    if not isinstance(norm, _BatchNorm) or type(norm).forward is not _BatchNorm.forward or has_hooks(norm):
        return False
    return norm.running_mean is not None


def folded_weights(conv: nn.Conv2d, norm: _BatchNorm | None) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of the convolution that equals `conv` followed by `norm`, which must be constant."""
    weight = conv.weight.double()
    bias = conv.bias.double() if conv.bias is not None else weight.new_zeros(weight.shape[0])
    if norm is None:
        return weight, bias
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = (norm.weight.double() if norm.affine else 1) / torch.sqrt(norm.running_var.double() + norm.eps)
    shift = norm.bias.double() if norm.affine else 0
    return weight * gain[:, None, None, None], (bias - norm.running_mean.double()) * gain + shift


def reduce_to_scale_and_shift(norm: _BatchNorm) -> None:
    """Change a constant BatchNorm in place, so that its weight and bias alone say what it does."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = (norm.weight.double() if norm.affine else 1) / torch.sqrt(norm.running_var.double() + norm.eps)
    shift = (norm.bias.double() if norm.affine else 0) - norm.running_mean.double() * gain
    norm.weight = nn.Parameter(gain.to(norm.running_mean.dtype), requires_grad=False)
    norm.bias = nn.Parameter(shift.to(norm.running_mean.dtype), requires_grad=False)
    norm.running_mean, norm.running_var = torch.zeros_like(norm.running_mean), torch.ones_like(norm.running_var)
    norm.eps = 0.0


def fold_batchnorms(network: nn.Module, image_shape: tuple[int, ...]) -> None:
    """Change `network` in place, for images of `image_shape`. Folded convolutions get new tensors as weights."""
    pairs = _pairs(network, image_shape)
    for norm, conv in pairs.items():
        weight, bias = folded_weights(conv, norm)
        conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
        conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)
    for parent in network.modules():
        for name, child in parent._modules.items():
            if child in pairs:
                parent._modules[name] = nn.Identity()


def run_on_meta(network: nn.Module, image_shape: tuple[int, ...]) -> Any:
    """The output of `network` for images of this shape on the meta device: shapes without values, at no cost."""
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    on_meta = {name: tensor.to("meta") for name, tensor in tensors}
    image = torch.empty(image_shape, dtype=next(network.parameters()).dtype, device="meta")
    return torch.func.functional_call(network, on_meta, (image,))


def sharing_copy(network: Module) -> Module:
    """A copy that shares its tensors with the original."""
    shared = {id(tensor): tensor for tensor in itertools.chain(network.parameters(), network.buffers())}
    return copy.deepcopy(network, shared)


class _UseCounter(TorchDispatchMode):
    """Counts how often each tensor, by its id, is given to an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()
        self._held: list[Tensor] = []  # so that no two have the same id

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        self._held.extend(given)
        self.counts.update(id(tensor) for tensor in given)
        return operation(*args, **(kwargs or {}))


def _pairs(network: nn.Module, image_shape: tuple[int, ...]) -> dict[_BatchNorm, nn.Conv2d]:
    """Each BatchNorm with the plain convolution before it, if nothing else uses that one's result (seen in a run)."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # holds the tensors, so that no two have the same id
    seen: list[tuple[_BatchNorm, nn.Conv2d, int]] = []
    runs: Counter[nn.Module] = Counter()

    def watch(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        runs[module] += 1
        if isinstance(module, nn.Conv2d):
            made[id(result)] = module, result
        elif isinstance(module, _BatchNorm) and id(given[0]) in made:
            seen.append((module, made[id(given[0])][0], id(given[0])))

    watched = [module for module in network.modules() if is_plain(module) or is_constant(module)]
    hooks = [module.register_forward_hook(watch) for module in watched]
    try:
        with _UseCounter() as uses:
            run_on_meta(network, image_shape)
    finally:
        for hook in hooks:
            hook.remove()
    # A second use is by another module, or by an activation that overwrites the result before the norm reads it.
    return {
        norm: conv for norm, conv, result in seen if uses.counts[result] == 1 and runs[norm] == 1 and runs[conv] == 1
    }
