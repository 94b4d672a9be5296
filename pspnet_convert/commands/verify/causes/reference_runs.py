"""Run the reference on a changed input, or only as far as a hypothesis needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from pspnet_convert.commands.verify.reference import pools_in_float64
from pspnet_convert.pytorch.batchnorm import sharing_copy

if TYPE_CHECKING:
    from pspnet_convert.pytorch.network import PSPNet


def run(network: PSPNet, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits [classes, H, W] for a normalised image [1, C, H, W]."""
    with torch.inference_mode(), pools_in_float64(network):
        return network(torch.from_numpy(np.ascontiguousarray(tensor)))[0].float().numpy()  # type: ignore[no-any-return]


def run_before_resize(network: PSPNet, tensor: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The logits [classes, h, w] before the resize to the image's size; None for a network with code of its own."""
    if network.is_as_written:
        return None
    with torch.inference_mode(), pools_in_float64(network):
        logits = network.decode_head(network.neck(network.backbone(torch.from_numpy(tensor))))
        if network.decision_score is not None:
            logits = pad(logits, (0, 0, 0, 0, 1, 0), value=network.decision_score)
        return logits[0].numpy()  # type: ignore[no-any-return]


class _Reached(Exception):
    """The first convolution ran."""


def first_convolution(network: nn.Module, tensor: NDArray[np.float32]) -> nn.Conv2d | None:
    """The first convolution that the network runs on a normalised image [1, C, H, W]; None if it gets another tensor
    than that image."""
    given = torch.from_numpy(tensor)
    reached: list[tuple[nn.Conv2d, Tensor]] = []

    def stop(module: Any, inputs: tuple[Tensor, ...]) -> None:
        reached.append((module, inputs[0]))
        raise _Reached

    hooks = [module.register_forward_pre_hook(stop) for module in network.modules() if isinstance(module, nn.Conv2d)]
    try:
        with torch.inference_mode():
            network(given)
    except Exception:
        # The network's own code may turn _Reached into another error. Any other error leaves `reached` empty.
        if not reached:
            raise
    finally:
        for hook in hooks:
            hook.remove()
    return reached[0][0] if reached and torch.equal(reached[0][1], given) else None


def run_with_mean_in_bias(network: PSPNet, tensor: NDArray[np.float32], offset: Sequence[float]) -> NDArray[np.float32]:
    """As run, where the first convolution gets the image without the mean, and its bias subtracts it.

    `offset`: a black pixel's values in `tensor`. That bias is right where the convolution sees the image alone. At the
    borders it sees zeros too, which are then black and not of the mean.
    """
    copy = sharing_copy(network)
    convolution = first_convolution(copy, tensor)
    black = torch.tensor(offset, dtype=torch.float32)[:, None, None]

    def without_mean(module: Any, given: tuple[Tensor, ...], _: Tensor) -> Tensor:
        of_mean = (module.weight * black).sum(dim=(1, 2, 3))
        return module.forward(given[0] - black) + of_mean[:, None, None]  # type: ignore[no-any-return]

    if convolution is not None:
        convolution.register_forward_hook(without_mean)
    return run(copy, tensor)
