"""Pooling by matrices is adaptive average pooling, for all sizes."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import adaptive_avg_pool2d

from pspnet_convert.card import ModelCard
from pspnet_convert.checkpoint import load_checkpoint
from pspnet_convert.network import build_network
from pspnet_convert.pyramid import MatrixPool, feature_size, pooling_matrix, with_matrix_pools


@given(cells=st.integers(1, 200), bins=st.integers(1, 12))
def test_rows_average_and_every_cell_is_used(cells: int, bins: int) -> None:
    matrix = pooling_matrix(cells, bins)
    assert matrix.shape == (bins, cells)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-14)
    assert (matrix.sum(axis=0) > 0).all()


@settings(deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    bins=st.integers(1, 8),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_equals_torch_for_any_size_and_bins(height: int, width: int, bins: int, channels: int, seed: int) -> None:
    values = torch.randn(2, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ours = MatrixPool(height, width, bins, torch.float64)(values)
    torch.testing.assert_close(ours, adaptive_avg_pool2d(values, bins), rtol=0, atol=1e-14)


def test_network_with_matrix_pools_shares_weights_and_leaves_the_reference_alone(small: ModelCard) -> None:
    reference = build_network(small, load_checkpoint(small.folder / small.checkpoint.name, small))
    changed = with_matrix_pools(reference, 72, 64)
    assert feature_size(reference, 72, 64) == (9, 8)
    assert changed.decode_head.conv_seg.weight is reference.decode_head.conv_seg.weight
    kinds = [type(branch[0]).__name__ for branch in reference.decode_head.psp_modules]
    assert kinds == ["AdaptiveAvgPool2d"] * 4
    image = torch.randn(1, 3, 72, 64, generator=torch.Generator().manual_seed(1))
    expected = reference(image)
    assert (changed(image) - expected).abs().max() <= 1e-5 * expected.abs().max()
