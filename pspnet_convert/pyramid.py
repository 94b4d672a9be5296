"""The pyramid head's adaptive pooling as small constant matrices: the same averages, exportable and exact.

An adaptive average pool to b bins over n cells averages cells floor(i n / b) .. ceil((i + 1) n / b) - 1 into
bin i (torch.nn.AdaptiveAvgPool2d). Rows and columns pool alike, so for a map X of [H, W] and bins [bh, bw]:

    pooled = R X C      R: [bh, H] averages rows      C: [W, bw] averages columns
"""

from __future__ import annotations

import copy
import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pspnet_convert.network import PSPNet


def pooling_matrix(cells: int, bins: int) -> NDArray[np.float64]:
    """[bins, cells], float64: row i averages the cells of bin i; every row sums to 1."""
    matrix = np.zeros((bins, cells))
    for i in range(bins):
        start, end = i * cells // bins, -(-(i + 1) * cells // bins)
        matrix[i, start:end] = 1 / (end - start)
    return matrix


class MatrixPool(nn.Module):
    """Adaptive average pooling of maps of one size, [N, C, H, W] to [N, C, bins, bins], as two products."""

    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int, bins: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("rows", torch.from_numpy(pooling_matrix(height, bins)).to(dtype))
        self.register_buffer("columns", torch.from_numpy(pooling_matrix(width, bins).T.copy()).to(dtype))

    def forward(self, feature_map: Tensor) -> Tensor:
        return self.rows @ (feature_map @ self.columns)


def with_matrix_pools(network: PSPNet, height: int, width: int) -> PSPNet:
    """A copy of `network` for images of this size, its pools exact matrices. The weights are shared."""
    rows, columns = feature_size(network, height, width)
    shared = {id(tensor): tensor for tensor in itertools.chain(network.parameters(), network.buffers())}
    changed = copy.deepcopy(network, shared)
    for branch in changed.decode_head.psp_modules:
        bins = branch[0].output_size
        branch[0] = MatrixPool(rows, columns, bins).eval()
    return changed


def feature_size(network: PSPNet, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the map that the pyramid head pools, for images of this size."""
    head = network.decode_head
    tensors = itertools.chain(network.backbone.named_parameters(), network.backbone.named_buffers())
    on_meta = {name: tensor.to("meta") for name, tensor in tensors}
    maps = torch.func.functional_call(network.backbone, on_meta, (torch.empty(1, 3, height, width, device="meta"),))
    return tuple(maps[head.in_index].shape[2:])
