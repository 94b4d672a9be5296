"""The reference's pyramid head as an equal one that does less work: the exact folding of PSPNet's pyramid.

The reference pools the backbone's map X [C, H, W] into b x b cells for each bin b, projects the cells (1x1
convolution, BatchNorm, ReLU) to P_b [c, b, b], stretches them back to H x W (bilinear), concatenates them with X
and runs a 3x3 convolution over all of it. Half of that convolution sees only stretched cells, and is linear in
them. With R, S the bilinear matrices [H, b], [W, b] and W_t the convolution's weights at tap t = (dy, dx):

    conv3x3([X, stretch(P_1), ..]) = conv3x3_X(X) + sum over b, t of  (shift_dy R) (W_t P_b) (shift_dx S)^T

shift_d R is R with its rows moved by d and zeros moved in: the convolution's padding. So the nine taps are 1x1
products on the 1 + 4 + 9 + 36 = 50 cells (bins 1, 2, 3, 6), and one constant matrix [9 * 50, H * W] spreads them.
Pooling is a constant matrix too, [H * W, 50]: cell i of b averages rows floor(i H / b) .. ceil((i + 1) H / b) - 1
(torch.nn.AdaptiveAvgPool2d), and columns alike. Both are exact for any bins and sizes.

BatchNorms are folded into the weights before them (batchnorm.py), and all of it is computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pspnet_convert.exporting.batchnorm import folded_weights, run_on_meta, sharing_copy
from pspnet_convert.pytorch.network import PSPNet

if TYPE_CHECKING:
    from mmcv.cnn import ConvModule
    from mmseg.models.decode_heads import PSPHead

_TAPS = (-1, 0, 1)


def pooling_matrix(cells: int, bins: int) -> Tensor:
    """[bins, cells], float64: row i averages the cells of bin i; every row sums to 1."""
    matrix = torch.zeros(bins, cells, dtype=torch.float64)
    for i in range(bins):
        start, end = i * cells // bins, -(-(i + 1) * cells // bins)
        matrix[i, start:end] = 1 / (end - start)
    return matrix


def stretching_matrix(cells: int, bins: int, align_corners: bool) -> Tensor:
    """[cells, bins], float64: the linear resize of `bins` values to `cells`, by torch's own rule."""
    identity = torch.eye(bins, dtype=torch.float64)[None]
    return interpolate(identity, size=cells, mode="linear", align_corners=align_corners)[0].T


def shifted(matrix: Tensor, by: int) -> Tensor:
    """Row i of the result is row i + `by` of `matrix`, zero where there is none."""
    rows = torch.arange(matrix.shape[0]) + by
    inside = (rows >= 0) & (rows < matrix.shape[0])
    return torch.where(inside[:, None], matrix[rows.clamp(0, matrix.shape[0] - 1)], 0)


class CellPool(nn.Module):
    """Pool a map into the cells of all bins at once: [N, C, H, W] to [N, C, 1, cells]."""

    def __init__(self, height: int, width: int, bins: Sequence[int]) -> None:
        super().__init__()
        matrices = [torch.kron(pooling_matrix(height, b), pooling_matrix(width, b)) for b in bins]
        self.register_buffer("matrix", torch.cat(matrices).T.contiguous())

    matrix: Tensor

    def forward(self, feature_map: Tensor) -> Tensor:
        return (feature_map.flatten(2) @ self.matrix).unsqueeze(2)


class FoldedPyramid(nn.Module):
    """What PSPHead does to the maps of images of one size: logits [N, classes, H, W] from the backbone's maps."""

    def __init__(self, head: PSPHead, height: int, width: int) -> None:
        super().__init__()
        channels, bins = head.in_channels, [branch[0].output_size for branch in head.psp_modules]
        self.in_index = head.in_index
        self.cells = [b * b for b in bins]
        self.size = (height, width)
        self.pool = CellPool(height, width, bins)
        weight, bias = _conv_and_norm(head.bottleneck)
        parts = weight.split([channels, *[head.channels] * len(bins)], dim=1)
        self.projections = nn.ModuleList(_conv(*_conv_and_norm(branch[1])) for branch in head.psp_modules)
        # A tap's 1x1 weights, output channel k's nine taps side by side: [9 * out, c, 1, 1].
        self.taps = nn.ModuleList(
            _conv(part.permute(0, 2, 3, 1).reshape(-1, part.shape[1], 1, 1), None) for part in parts[1:]
        )
        self.register_buffer("spread", _spreading_matrix(height, width, bins, head.align_corners))
        self.convolution = _conv(parts[0], bias)
        self.conv_seg = head.conv_seg

    spread: Tensor

    def forward(self, feature_maps: Sequence[Tensor]) -> Tensor:
        feature_map = feature_maps[self.in_index]
        cells = self.pool(feature_map).split(self.cells, dim=3)
        products = [taps(projection(part).relu()) for projection, taps, part in zip(self.projections, self.taps, cells)]
        by_tap = torch.cat(products, dim=3).reshape(feature_map.shape[0], -1, self.spread.shape[0])
        pyramid = (by_tap @ self.spread).reshape(feature_map.shape[0], -1, *self.size)
        return self.conv_seg((self.convolution(feature_map) + pyramid).relu())


def with_folded_pyramid(network: PSPNet, height: int, width: int) -> PSPNet:
    """A copy of `network` for images of this size, its head folded. Weights that stay as they are, are shared."""
    changed = sharing_copy(network)
    rows, columns = feature_size(network, height, width)
    dtype = network.decode_head.conv_seg.weight.dtype
    with torch.no_grad():
        changed.decode_head = FoldedPyramid(changed.decode_head, rows, columns).to(dtype).eval()
    return changed


def with_matrix_pools(network: PSPNet, height: int, width: int) -> PSPNet:
    """A copy of `network` for images of this size, as written but for its pools, which are exact matrices."""
    changed = sharing_copy(network)
    rows, columns = feature_size(network, height, width)
    for branch in changed.decode_head.psp_modules:
        branch[0] = MatrixPool(rows, columns, branch[0].output_size).eval()
    return changed


class MatrixPool(nn.Module):
    """Adaptive average pooling of maps of one size, [N, C, H, W] to [N, C, bins, bins], as two products."""

    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int, bins: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("rows", pooling_matrix(height, bins).to(dtype))
        self.register_buffer("columns", pooling_matrix(width, bins).T.contiguous().to(dtype))

    def forward(self, feature_map: Tensor) -> Tensor:
        return self.rows @ (feature_map @ self.columns)


def feature_size(network: PSPNet, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the map that the pyramid head pools, for images of this size."""
    maps = run_on_meta(nn.Sequential(network.backbone, network.neck), (1, 3, height, width))
    rows, columns = maps[network.decode_head.in_index].shape[2:]
    return rows, columns


def _spreading_matrix(height: int, width: int, bins: Sequence[int], align_corners: bool) -> Tensor:
    """[9 * cells, H * W], float64; the taps in the order of `_TAPS` by rows, each with all cells of all bins."""
    stretches = [
        (stretching_matrix(height, b, align_corners), stretching_matrix(width, b, align_corners)) for b in bins
    ]
    taps = [
        torch.kron(shifted(rows, dy), shifted(columns, dx)).T
        for dy in _TAPS
        for dx in _TAPS
        for rows, columns in stretches
    ]
    return torch.cat(taps).contiguous()


def _conv_and_norm(module: ConvModule) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of mmcv's convolution with BatchNorm, or without."""
    return folded_weights(module.conv, module.norm if module.with_norm else None)


def _conv(weight: Tensor, bias: Optional[Tensor]) -> nn.Conv2d:
    """A convolution with these weights that keeps a map's size."""
    out_channels, in_channels, side, _ = weight.shape
    conv = nn.Conv2d(in_channels, out_channels, side, padding=side // 2, bias=bias is not None, device="meta")
    conv.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias, requires_grad=False)
    return conv
