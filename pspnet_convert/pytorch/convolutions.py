"""Find the convolutions that use their weights unchanged, and turn those that standardize them first into plain ones.

The layers that a config names in `conv_cfg` are subclasses of Conv2d in mmcv.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def is_plain(module: nn.Module) -> bool:
    """Whether `module` is a convolution with its weights unchanged, plus its bias; it may compute its padding."""
    from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
    from mmcv.cnn.bricks.wrappers import Conv2d

    return type(module) in (nn.Conv2d, Conv2d, Conv2dAdaptivePadding) and not has_hooks(module)


def has_hooks(module: nn.Module) -> bool:
    """Whether the user's code runs before or after the module."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def make_standardized_plain(network: nn.Module) -> None:
    """Change `network` in place: ConvWS and ConvAWS become plain convolutions with the standardized weights.

    Both standardize each output channel's weights (Qiao et al. 2019, arXiv:1903.10520; DetectoRS, 2006.02334), and
    in eval mode these are constants. Computed in float64, then cast.
    """
    from mmcv.cnn.bricks.conv_ws import ConvAWS2d, ConvWS2d

    for parent in network.modules():
        for name, module in parent._modules.items():
            if isinstance(module, ConvAWS2d):
                parent._modules[name] = _with_weights(module, module._get_weight(module.weight.double()))
            elif isinstance(module, ConvWS2d):
                parent._modules[name] = _with_weights(module, _standardized(module.weight.double(), module.eps))


def _standardized(weight: Tensor, eps: float) -> Tensor:
    deviation, mean = torch.std_mean(weight, dim=(1, 2, 3), keepdim=True)
    return (weight - mean) / (deviation + eps)


def _with_weights(conv: nn.Conv2d, weight: Tensor) -> nn.Conv2d:
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        conv.groups,
        device="meta",
    )
    plain.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    plain.bias = conv.bias
    return plain.eval()
