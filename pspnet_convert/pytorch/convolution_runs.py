"""Each convolution that a network runs, and the network's result, with sketches of what goes in and comes out.

A sketch is small, so that those of all layers fit into memory: at each place of a map, a few random sums over its
channels. The relative error of a sketch is near the tensor's: the sums of a difference have its size on average
(Johnson and Lindenstrauss 1984), wherever the difference is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_SUMS = 4
Sketch = NDArray[np.float32]


@dataclass(frozen=True)
class ConvolutionRun:
    """One run of a convolution: the path of its module, its weight's shape [out, in / groups, height, width].

    The last one is of the network itself: no path, no weight.
    """

    path: str
    weight: tuple[int, ...]
    given: Sketch
    result: Sketch


def sketch(tensor: NDArray[np.float32]) -> Sketch:
    """[N, 4, H, W] of a tensor [N, C, H, W]; the same sums for the same number of channels."""
    factors = np.random.default_rng(tensor.shape[1]).standard_normal((_SUMS, tensor.shape[1]), dtype=np.float32)
    return np.einsum("sc,nchw->nshw", factors, tensor.astype(np.float32, copy=False), optimize=True)


def run_convolutions(network: nn.Module, image: NDArray[np.float32]) -> list[ConvolutionRun]:
    """In the order of execution, when `network` runs on normalised images [N, C, H, W]."""
    found: list[ConvolutionRun] = []

    def note(path: str, module: nn.Module, given: Tensor, result: Tensor) -> None:
        weight = tuple(module.weight.shape) if isinstance(module, nn.Conv2d) else ()
        found.append(ConvolutionRun(path, weight, sketch(given.numpy()), sketch(result.numpy())))

    _run(network, image, note)
    return found


def tensors_of(network: nn.Module, image: NDArray[np.float32], index: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """What goes into run `index` of run_convolutions, and what comes out: float32 [N, C, H, W]."""
    runs: list[tuple[NDArray[Any], NDArray[Any]] | None] = []

    def note(path: str, module: nn.Module, given: Tensor, result: Tensor) -> None:
        runs.append((given.numpy().copy(), result.numpy().copy()) if len(runs) == index else None)

    _run(network, image, note)
    found = runs[index]
    assert found is not None
    return found


def _run(
    network: nn.Module, image: NDArray[np.float32], note: Callable[[str, nn.Module, Tensor, Tensor], None]
) -> None:
    def hook(path: str) -> Callable[[nn.Module, Sequence[Tensor], Tensor], None]:
        return lambda module, given, result: note(path, module, given[0], result)

    modules = [(path, module) for path, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(hook(path)) for path, module in [*modules, ("", network)]]
    try:
        with torch.inference_mode():
            network(torch.from_numpy(image))
    finally:
        for one in hooks:
            one.remove()
