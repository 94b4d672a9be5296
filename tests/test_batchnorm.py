"""A BatchNorm goes into a convolution only where the network stays the same function."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pspnet_convert.pytorch.batchnorm import fold_batchnorms


class Chain(nn.Sequential):
    folds = True

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*(modules or (nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))))


class SumWithTheConvolution(Chain):
    folds = False

    def forward(self, image: Tensor) -> Tensor:
        convolved = self[0](image)
        return convolved + self[1](convolved)


class ActivationInPlaceBefore(Chain):
    folds = False

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 3, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(3))


class ConvolutionTwice(Chain):
    folds = False

    def forward(self, image: Tensor) -> Tensor:
        return self[1](self[0](self[0](image)))


class NormTwice(Chain):
    folds = False

    def forward(self, image: Tensor) -> Tensor:
        return self[1](self[1](self[0](image)))


class OwnStatistics(Chain):
    folds = False

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False))


class TransposedConvolution(Chain):
    folds = False

    def __init__(self) -> None:
        super().__init__(nn.ConvTranspose2d(3, 3, 3), nn.BatchNorm2d(3))


class Doubled(nn.Conv2d):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) * 2


class OwnForward(Chain):
    folds = False

    def __init__(self) -> None:
        super().__init__(Doubled(3, 3, 3), nn.BatchNorm2d(3))


class NotAffine(Chain):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 3, 3, bias=False), nn.BatchNorm2d(3, affine=False))


class Reflecting(Chain):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect", groups=3), nn.BatchNorm2d(6))


@pytest.mark.parametrize(
    "kind",
    [
        *(Chain, NotAffine, Reflecting),
        *(SumWithTheConvolution, ActivationInPlaceBefore, ConvolutionTwice, NormTwice, OwnStatistics),
        *(TransposedConvolution, OwnForward),
    ],
)
def test_the_function_stays_and_what_can_be_folded_is(kind: type[Chain]) -> None:
    torch.manual_seed(0)
    network = kind().double().eval().requires_grad_(False)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5 if name.endswith("running_var") else -1, 2)
    image = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    expected = network(image)
    fold_batchnorms(network, (2, 3, 9, 8))
    assert (network(image) - expected).abs().max() <= 1e-13 * expected.abs().max()
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules()) != kind.folds
