"""The folded pyramid head is the reference's, for all sizes, bins and both rules of resizing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import adaptive_avg_pool2d

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.exporting.pyramid import (
    CellPool,
    FoldedPyramid,
    MatrixPool,
    feature_size,
    pooling_matrix,
    shifted,
    with_folded_pyramid,
    with_matrix_pools,
)
from pspnet_convert.mmcv_ops import provide_mmcv_ops
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.network import PSPNet, build_network

sides = st.integers(1, 14)
all_bins = st.lists(st.integers(1, 8), min_size=1, max_size=5).map(tuple)
seeds = st.integers(0, 2**31)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(cells=st.integers(1, 200), bins=st.integers(1, 12))
def test_pooling_rows_average_and_every_cell_is_used(cells: int, bins: int) -> None:
    matrix = pooling_matrix(cells, bins).numpy()
    assert matrix.shape == (bins, cells)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-14)
    assert (matrix.sum(axis=0) > 0).all()


@settings(deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), bins=st.integers(1, 8), seed=seeds)
def test_matrix_pools_equal_torchs_adaptive_pool(height: int, width: int, bins: int, seed: int) -> None:
    values = random(seed, 2, 3, height, width)
    expected = adaptive_avg_pool2d(values, bins)
    torch.testing.assert_close(MatrixPool(height, width, bins, torch.float64)(values), expected, rtol=0, atol=1e-14)
    cells = CellPool(height, width, [bins])(values).reshape(expected.shape)
    torch.testing.assert_close(cells, expected, rtol=0, atol=1e-13)


def test_shifting_moves_zeros_in() -> None:
    rows = torch.tensor([[1.0], [2.0], [3.0]])
    assert shifted(rows, 1).T.tolist() == [[2, 3, 0]]
    assert shifted(rows, -1).T.tolist() == [[0, 1, 2]]
    assert shifted(rows, 0) is not rows
    assert shifted(rows[:1], 1).tolist() == [[0]]


@settings(deadline=None, max_examples=60)
@given(
    height=sides,
    width=sides,
    bins=all_bins,
    align_corners=st.booleans(),
    with_norm=st.booleans(),
    channels=st.integers(1, 5),
    seed=seeds,
)
def test_folded_head_equals_mmsegmentations(
    height: int, width: int, bins: tuple[int, ...], align_corners: bool, with_norm: bool, channels: int, seed: int
) -> None:
    provide_mmcv_ops()
    from mmseg.models.decode_heads import PSPHead

    torch.manual_seed(seed)
    norm = {"type": "BN"} if with_norm else None
    head = PSPHead(
        pool_scales=bins, in_channels=channels, in_index=0, channels=4, num_classes=3, norm_cfg=norm,
        align_corners=align_corners,
    )  # fmt: skip
    head = head.double().eval().requires_grad_(False)
    for tensor in [*head.parameters(), *head.buffers()]:
        if tensor.is_floating_point():  # statistics and weights that hide nothing; variances stay positive
            tensor.copy_(random(seed, *tensor.shape).abs() + 0.1)
    maps = [random(seed + 1, 2, channels, height, width)]
    expected = head(maps)
    assert (FoldedPyramid(head, height, width)(maps) - expected).abs().max() <= 1e-10 * expected.abs().max()


@pytest.fixture(scope="module")
def reference(small: ModelCard) -> PSPNet:
    return build_network(small, load_checkpoint(small.folder / small.checkpoint.name, small))


@pytest.mark.parametrize("change", [with_matrix_pools, with_folded_pyramid])
@pytest.mark.parametrize(("height", "width"), [(72, 64), (65, 97)])
def test_changed_networks_share_the_backbone_and_leave_the_reference_alone(
    reference: PSPNet, change: type, height: int, width: int
) -> None:
    changed = change(reference, height, width)
    assert feature_size(reference, height, width) == (-(-height // 8), -(-width // 8))
    assert changed.backbone.layer1[0].conv1.weight is reference.backbone.layer1[0].conv1.weight
    assert changed.decode_head.conv_seg.weight is reference.decode_head.conv_seg.weight
    kinds = [type(branch[0]).__name__ for branch in reference.decode_head.psp_modules]
    assert kinds == ["AdaptiveAvgPool2d"] * 4
    image = random(1, 1, 3, height, width).float()
    expected = reference(image)
    assert (changed(image) - expected).abs().max() <= 1e-5 * expected.abs().max()
