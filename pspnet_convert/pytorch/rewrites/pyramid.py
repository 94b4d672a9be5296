"""Replace PSPNet's pyramid head by an equal one that does less work: an exact folding of the pyramid.

The reference pools the backbone's map X [C, H, W] into b x b cells for each bin b, projects the cells (1x1
convolution, BatchNorm, ReLU) to P_b [c, b, b], stretches them back to H x W (bilinear), concatenates them with X
and runs a 3x3 convolution over all of it. Half of that convolution sees only stretched cells, and is linear in
them. With R, S the bilinear matrices [H, b], [W, b] and W_t the convolution's weights at tap t = (dy, dx):

    conv3x3([X, stretch(P_1), ..]) = conv3x3_X(X) + sum over b, t of  (shift_dy R) (W_t P_b) (shift_dx S)^T

shift_d R is R with its rows moved by d and zeros moved in: the convolution's padding. So the nine taps are 1x1
products on the b * b cells, and the rest is constant. It is also separable: put a cell's nine products next to each
other, M_b [c, 3b, 3b] with M_b[3i + dy, 3j + dx] = W_t P_b[i, j] (which is torch's pixel_shuffle), and

    the sum over b, t = sum over b of  rows_b M_b columns_b = rows [M_1 columns_1; M_2 columns_2; ..]

with rows_b [H, 3b] = the columns of shift_-1 R, R, shift_1 R in turn, columns_b [3b, W] the same of S, transposed, and
rows = [rows_1, rows_2, ..]. The bins 1, 2, 3, 6 thus need constants of 36 H + 36 W numbers. Pooling has such a pair of
matrices too (pooling.py). All is exact for any bins and sizes.

BatchNorms are folded into the weights before them (batchnorm.py), and all of it is computed in float64. Activations
stay as they are, and so does a norm that depends on the map (GroupNorm, InstanceNorm): it is applied to a bin's cells,
or to the sum above. A head for which the algebra does not hold (`_obstacle`) is left as written.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle

from pspnet_convert.pytorch.batchnorm import (
    folded_weights,
    is_constant,
    run_on_meta,
    sharing_copy,
)
from pspnet_convert.pytorch.convolutions import is_plain, make_standardized_plain
from pspnet_convert.pytorch.network import PSPNet
from pspnet_convert.pytorch.rewrites.pooling import MatrixPool, PyramidPool

if TYPE_CHECKING:
    from mmcv.cnn import ConvModule
    from mmseg.models.decode_heads import PSPHead

_TAPS = (-1, 0, 1)
log = logging.getLogger(__name__)


def stretching_matrix(cells: int, bins: int, align_corners: bool) -> Tensor:
    """[cells, bins], float64: the linear resize of `bins` values to `cells`, by torch's rule."""
    identity = torch.eye(bins, dtype=torch.float64)[None]
    return interpolate(identity, size=cells, mode="linear", align_corners=align_corners)[0].T


def shifted(matrix: Tensor, by: int) -> Tensor:
    """Row i of the result is row i + `by` of `matrix`, zero where there is none."""
    rows = torch.arange(matrix.shape[0]) + by
    inside = (rows >= 0) & (rows < matrix.shape[0])
    return torch.where(inside[:, None], matrix[rows.clamp(0, matrix.shape[0] - 1)], 0)


def spreading_matrix(cells: int, bins: int, align_corners: bool) -> Tensor:
    """[cells, 3 * bins], float64: `stretching_matrix`, each of its columns at the three taps of `_TAPS` in turn."""
    stretch = stretching_matrix(cells, bins, align_corners)
    return torch.stack([shifted(stretch, by) for by in _TAPS], dim=2).flatten(1)


class ColumnSpread(nn.Module):
    """Spread a bin's taps [N, 9 * out, b, b] over the columns of a map: [N, out, 3 * b, W]."""

    columns: Tensor

    def __init__(self, width: int, bins: int, align_corners: bool) -> None:
        super().__init__()
        self.register_buffer("columns", spreading_matrix(width, bins, align_corners).T.contiguous())

    def forward(self, by_tap: Tensor) -> Tensor:
        return pixel_shuffle(by_tap, len(_TAPS)) @ self.columns


class FoldedPyramid(nn.Module):
    """PSPHead, folded, for images of one size: the backbone's maps in, logits [N, classes, H, W] out."""

    def __init__(self, head: PSPHead, height: int, width: int) -> None:
        super().__init__()
        bins = [branch[0].output_size for branch in head.psp_modules]
        self.select = head._transform_inputs
        self.pool = PyramidPool(height, width, bins)
        branches = [branch[1] for branch in head.psp_modules]
        self.projections = nn.ModuleList(_conv(*_weights(branch)) for branch in branches)
        self.norms = nn.ModuleList(_norm_not_folded(branch) for branch in branches)
        self.activations = nn.ModuleList(_activation(branch) for branch in branches)
        weight, bias = _weights(head.bottleneck)
        parts = weight.split([head.in_channels, *[head.channels] * len(bins)], dim=1)
        # A tap's 1x1 weights; the nine taps of an output channel follow each other: [9 * out, c, 1, 1].
        self.taps = nn.ModuleList(
            _conv(part.permute(0, 2, 3, 1).reshape(-1, part.shape[1], 1, 1), None) for part in parts[1:]
        )
        self.spreads = nn.ModuleList(ColumnSpread(width, b, head.align_corners) for b in bins)
        rows = [spreading_matrix(height, b, head.align_corners) for b in bins]
        self.register_buffer("rows", torch.cat(rows, dim=1))
        self.convolution = _conv(parts[0], bias)
        self.norm = _norm_not_folded(head.bottleneck)
        self.activation = _activation(head.bottleneck)
        self.conv_seg = head.conv_seg

    rows: Tensor

    def forward(self, feature_maps: Sequence[Tensor]) -> Tensor:
        feature_map = self.select(feature_maps)
        branches = zip(self.pool(feature_map), self.projections, self.norms, self.activations, self.taps, self.spreads)
        # `forward`, so that the exporter gives the activations' nodes to the head.
        by_column = [
            spread(taps(activation.forward(norm(projection(cells)))))
            for cells, projection, norm, activation, taps, spread in branches
        ]
        pyramid = self.rows @ torch.cat(by_column, dim=2)
        return self.conv_seg(self.activation.forward(self.norm(self.convolution(feature_map) + pyramid)))


def with_folded_pyramid(network: PSPNet, height: int, width: int) -> PSPNet:
    """A copy of `network` for images of this size, with its head folded. Unchanged weights are shared.

    A head that cannot be folded gets matrix pools instead (`with_matrix_pools`), with a warning.
    """
    changed = _copy_to_rewrite(network)
    obstacle = _obstacle(changed.decode_head)
    if obstacle is not None:
        log.warning("decode_head: the pyramid is exported as written, not folded: %s", obstacle)
        return with_matrix_pools(network, height, width)
    rows, columns = feature_size(network, height, width)
    with torch.no_grad():
        changed.decode_head = FoldedPyramid(changed.decode_head, rows, columns).to(_dtype(network)).eval()
    return changed


def with_matrix_pools(network: PSPNet, height: int, width: int) -> PSPNet:
    """A copy of `network` for images of this size. Only the pyramid's pools change: to exact matrices."""
    changed = _copy_to_rewrite(network)
    rows, columns = feature_size(network, height, width)
    for branch in changed.decode_head.psp_modules:
        branch[0] = MatrixPool(rows, columns, branch[0].output_size, _dtype(network)).eval()
    return changed


def _copy_to_rewrite(network: PSPNet) -> PSPNet:
    changed = sharing_copy(network)
    with torch.no_grad():
        make_standardized_plain(changed)
    return changed


def _dtype(network: PSPNet) -> torch.dtype:
    return network.decode_head.conv_seg.weight.dtype


def feature_size(network: PSPNet, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the map that the pyramid head pools, for images of this size."""
    maps = run_on_meta(nn.Sequential(network.backbone, network.neck), (1, network.channels, height, width))
    rows, columns = network.decode_head._transform_inputs(maps).shape[2:]
    return rows, columns


def _obstacle(head: PSPHead) -> str | None:
    """Why the head cannot be folded; None if it can."""
    for module in [*(branch[1] for branch in head.psp_modules), head.bottleneck]:
        conv = module.conv
        if not is_plain(conv):
            return f"it has {type(conv).__name__} layers"
        if conv.padding_mode != "zeros":
            return f"its padding is {conv.padding_mode}"
        if isinstance(module.norm, nn.LayerNorm):  # over a map's rows, which a bin's cells do not keep
            return "it has LayerNorm"
    return None


def _weights(module: ConvModule) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of mmcv's convolution with its norm folded in, if that is constant."""
    return folded_weights(module.conv, module.norm if is_constant(module.norm) else None)


def _norm_not_folded(module: ConvModule) -> nn.Module:
    """The norm, if it is not in `_weights`; else nothing."""
    return nn.Identity() if module.norm is None or is_constant(module.norm) else module.norm


def _activation(module: ConvModule) -> nn.Module:
    return module.activate if module.with_activation else nn.Identity()


def _conv(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A convolution with these weights, padded so that a map keeps its size."""
    out_channels, in_channels, side, _ = weight.shape
    conv = nn.Conv2d(in_channels, out_channels, side, padding=side // 2, bias=bias is not None, device="meta")
    conv.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias, requires_grad=False)
    return conv
