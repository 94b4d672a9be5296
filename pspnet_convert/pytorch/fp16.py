"""The network as this tool's FP16 IRs hold it: rewritten as for export, each of its constants rounded to FP16.

A front-end first computes with some constants: it multiplies a constant factor into the weights before it. Then it
rounds what is left. It leaves a layer's own weights alone; each front-end treats other constants in its own way. So the
copy exists only where all constants are weights of layers, as in most convolutional networks. A run shows that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pspnet_convert.pytorch.batchnorm import is_constant, reduce_to_scale_and_shift
from pspnet_convert.pytorch.fp16_constant import stored_in_fp16
from pspnet_convert.pytorch.network import PSPNet
from pspnet_convert.pytorch.rewritten import is_rewritten, rewritten_copy

# By the names that torch's operations have in inference mode, without a trailing _ and the overload.
_PRODUCTS = {"conv2d", "conv_transpose2d", "linear"}
_LAYERS = {*_PRODUCTS, "batch_norm", "layer_norm", "group_norm", "instance_norm", "prelu", "matmul"}
_MOVING = {
    *("view", "reshape", "permute", "transpose", "flatten", "unflatten", "unsqueeze", "squeeze", "select", "slice"),
    *("split", "split_with_sizes", "chunk", "expand", "contiguous", "clone", "detach", "alias", "pixel_shuffle"),
}
_WITHOUT_CONSTANTS = {
    *("relu", "hardtanh", "relu6", "sigmoid", "tanh", "hardswish", "gelu", "silu", "softmax", "dropout", "cat", "pad"),
    *("constant_pad_nd", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "upsample_bilinear2d"),
    *("upsample_nearest2d", "mean", "sum", "add", "sub", "mul", "bmm"),
}


@torch.inference_mode()
def fp16_copy(
    network: PSPNet,
    image: Sequence[int],
    openvino: str,
    *,
    fold_pyramid: bool,
    divide_first_by: Sequence[float] | None = None,
) -> PSPNet | None:
    """An equal network for images [channels, height, width] of this shape, with constants in FP16 as `openvino`, a
    release, saves them.

    `divide_first_by`: by channel; the first layer's weights are divided by it before they are rounded. None where it is
    not known how a front-end would round the constants. Tensors of `network` stay as they are.
    """
    if not is_rewritten(network):
        return None
    changed = rewritten_copy(network, image, fold_pyramid=fold_pyramid)
    uses = _watch(changed, image)
    if uses.surprise is not None:
        return None
    if divide_first_by is not None:
        if uses.first_weights is None:
            return None
        _divide(changed, uses.first_weights, divide_first_by)
    for module in changed.modules():
        if is_constant(module):
            reduce_to_scale_and_shift(module)  # type: ignore[arg-type]
        for kept in (module._parameters, module._buffers):
            for name, tensor in kept.items():
                if tensor is not None and tensor.is_floating_point():
                    kept[name] = nn.Parameter(stored_in_fp16(tensor, openvino), requires_grad=False)
    return changed


def _divide(network: nn.Module, name: str, by: Sequence[float]) -> None:
    """Divide the weights [out, channels, rows, columns] of this name as OpenVINO does: they times 1 / `by`, float32."""
    path, _, own = name.rpartition(".")
    layer = network.get_submodule(path)
    factor = 1 / torch.tensor(by, dtype=torch.float32)
    weights = layer.get_parameter(own) * factor[None, :, None, None]
    setattr(layer, own, nn.Parameter(weights, requires_grad=False))


def _watch(network: nn.Module, image: Sequence[int]) -> _ConstantUses:
    """Run the network on the meta device: shapes without values."""
    kept = {
        name: tensor.to("meta") for part in (network.named_parameters, network.named_buffers) for name, tensor in part()
    }
    given = torch.empty((1, *image), device="meta")
    uses = _ConstantUses(kept, given)
    with uses:
        torch.func.functional_call(network, kept, (given,))
    return uses


class _ConstantUses(TorchDispatchMode):
    """Watches a run for a constant that is no layer's weights. `surprise`: the first operation that has one, or that
    this module does not know. `first_weights`: the name of the weights of the convolution that takes the image, if
    nothing else does.
    """

    def __init__(self, kept: Mapping[str, Tensor], image: Tensor) -> None:
        super().__init__()
        self.surprise: str | None = None
        self._names = {id(tensor): name for name, tensor in kept.items()}
        self._image = image
        self._of_image: list[str | None] = []  # of each use of the image: the weights' name
        self._computed: dict[int, Tensor] = {}  # constants made of others; held, so that no two have the same id
        self._products: dict[int, Tensor] = {}  # what convolutions and linear layers gave

    @property
    def first_weights(self) -> str | None:
        (only, *others) = self._of_image or [None]
        return None if others else only

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        result = operation(*args, **(kwargs or {}))
        made = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        name = operation.__name__.partition(".")[0].rstrip("_")
        if all(self._is_constant(tensor) for tensor in given):
            _hold(self._computed, made)
            return result
        if not self._is_known(name, args, kwargs or {}, given) and self.surprise is None:
            self.surprise = name
        if name in _PRODUCTS or (name in _MOVING and id(given[0]) in self._products):
            _hold(self._products, made)
        if any(tensor is self._image for tensor in given):
            self._of_image.append(self._first_weights(name, args))
        return result

    def _is_constant(self, tensor: Tensor) -> bool:
        return id(tensor) in self._names or id(tensor) in self._computed

    def _is_known(self, name: str, args: Sequence[Any], options: Mapping[str, Any], given: Sequence[Tensor]) -> bool:
        if any(id(tensor) in self._computed for tensor in given):
            return False
        if name == "batch_norm":
            # The front-end multiplies it into the layer before it. This tool has not, so that it is another case.
            return id(args[0]) not in self._products and args[3] is not None
        if name in _LAYERS:
            return True
        if name not in {*_MOVING, *_WITHOUT_CONSTANTS} or any(self._is_constant(tensor) for tensor in given):
            return False
        if name == "add" and isinstance(args[1], int) and args[1] == 0:  # HRNet begins its sums with it
            return True
        return name not in {"add", "sub", "mul"} or (len(given) == 2 and not options)

    def _first_weights(self, name: str, args: Sequence[Any]) -> str | None:
        """The weights' name, if this is a convolution of all channels with weights of its own."""
        if name != "conv2d" or args[1].shape[1] != self._image.shape[1]:
            return None
        return self._names.get(id(args[1]))


def _hold(where: dict[int, Tensor], tensors: Iterable[Tensor]) -> None:
    where.update((id(tensor), tensor) for tensor in tensors)
