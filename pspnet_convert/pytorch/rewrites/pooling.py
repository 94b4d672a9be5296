"""Adaptive average pooling of maps of one size as products with constant matrices, which any runtime has.

Cell i of b bins averages rows floor(i H / b) .. ceil((i + 1) H / b) - 1 (torch.nn.AdaptiveAvgPool2d), and columns
alike. It is linear, and separable: rows [b, H] times the map [H, W] times columns [W, b]. Exact for any bins and sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def pooling_matrix(cells: int, bins: int) -> Tensor:
    """[bins, cells], float64: row i averages the cells of bin i; every row sums to 1."""
    matrix = torch.zeros(bins, cells, dtype=torch.float64)
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
        self.register_buffer("rows", pooling_matrix(height, bins).to(dtype))
        self.register_buffer("columns", pooling_matrix(width, bins).T.contiguous().to(dtype))

    def forward(self, feature_map: Tensor) -> Tensor:
        return self.rows @ (feature_map @ self.columns)


class PyramidPool(nn.Module):
    """Pool a map [N, C, H, W] for all bins with one pair of products: [N, C, b, b] for each bin b.

    The matrices of all bins are stacked, rows [sum of b, H] and columns [W, sum of b]. So the product also pools one
    bin's rows with another's columns; the bins are the squares on its diagonal, and the rest is dropped. This reads
    the map once, which is faster than a pair of products for each bin.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int, bins: Sequence[int]) -> None:
        super().__init__()
        self.bins = list(bins)
        self.register_buffer("rows", torch.cat([pooling_matrix(height, b) for b in bins]))
        self.register_buffer("columns", torch.cat([pooling_matrix(width, b) for b in bins]).T.contiguous())

    def forward(self, feature_map: Tensor) -> list[Tensor]:
        by_row = (self.rows @ (feature_map @ self.columns)).split(self.bins, dim=2)
        starts = [sum(self.bins[:number]) for number in range(len(self.bins))]
        return [part[..., start : start + b] for part, start, b in zip(by_row, starts, self.bins)]
