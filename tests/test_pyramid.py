"""The folded pyramid head equals the reference's, for all sizes, bins and both rules of resizing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import adaptive_avg_pool2d, conv2d, interpolate

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.inline_network import check_network
from pspnet_convert.mmcv_ops import provide_mmcv_ops
from pspnet_convert.pytorch.batchnorm import fold_batchnorms
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.convolutions import make_standardized_plain
from pspnet_convert.pytorch.network import PSPNet, build_inline, build_network
from pspnet_convert.pytorch.rewrites.pooling import MatrixPool, PyramidPool, pooling_matrix
from pspnet_convert.pytorch.rewrites.pyramid import (
    ColumnSpread,
    FoldedPyramid,
    feature_size,
    shifted,
    spreading_matrix,
    with_folded_pyramid,
    with_matrix_pools,
)

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


@given(height=st.integers(1, 40), width=st.integers(1, 40), bins=st.integers(1, 8), seed=seeds)
def test_matrix_pools_equal_torchs_adaptive_pool(height: int, width: int, bins: int, seed: int) -> None:
    values = random(seed, 2, 3, height, width)
    expected = adaptive_avg_pool2d(values, bins)
    torch.testing.assert_close(MatrixPool(height, width, bins, torch.float64)(values), expected, rtol=0, atol=1e-14)


@given(height=st.integers(1, 40), width=st.integers(1, 40), bins=all_bins, seed=seeds)
def test_the_pools_of_all_bins_at_once_equal_torchs(height: int, width: int, bins: tuple[int, ...], seed: int) -> None:
    values = random(seed, 2, 3, height, width)
    found = PyramidPool(height, width, bins)(values)
    for count, cells in zip(bins, found, strict=True):
        torch.testing.assert_close(cells, adaptive_avg_pool2d(values, count), rtol=0, atol=1e-14)


@given(height=sides, width=sides, bins=st.integers(1, 8), align_corners=st.booleans(), seed=seeds)
def test_spreading_equals_stretching_and_a_convolution_over_it(
    height: int, width: int, bins: int, align_corners: bool, seed: int
) -> None:
    cells, weight = random(seed, 2, 3, bins, bins), random(seed + 1, 4, 3, 3, 3)
    stretched = interpolate(cells, size=(height, width), mode="bilinear", align_corners=align_corners)
    by_tap = conv2d(cells, weight.permute(0, 2, 3, 1).reshape(-1, 3, 1, 1))
    rows = spreading_matrix(height, bins, align_corners)
    found = rows @ ColumnSpread(width, bins, align_corners)(by_tap)
    torch.testing.assert_close(found, conv2d(stretched, weight, padding=1), rtol=0, atol=1e-12)


def test_shifting_moves_zeros_in() -> None:
    rows = torch.tensor([[1.0], [2.0], [3.0]])
    assert shifted(rows, 1).T.tolist() == [[2, 3, 0]]
    assert shifted(rows, -1).T.tolist() == [[0, 1, 2]]
    assert shifted(rows, 0) is not rows
    assert shifted(rows[:1], 1).tolist() == [[0]]


CONVOLUTIONS = [None, "Conv", "Conv2d", "Conv2dAdaptivePadding", "ConvAWS", "ConvWS"]
NORMS: list[dict[str, Any] | None] = [
    None,
    {"type": "BN"},
    {"type": "BN", "affine": False},
    {"type": "BN", "track_running_stats": False},
    {"type": "GN", "num_groups": 2},
    {"type": "IN"},
    {"type": "IN2d", "affine": True, "track_running_stats": True},
]
ACTIVATIONS: list[str | None] = [
    *(None, "ELU", "GELU", "HSigmoid", "HSwish", "LeakyReLU", "PReLU", "ReLU", "ReLU6", "Sigmoid", "SiLU", "Swish"),
]


def of_type(kind: str | None) -> dict[str, Any] | None:
    return None if kind is None else {"type": kind}


@settings(max_examples=150)
@given(
    height=sides,
    width=sides,
    bins=all_bins,
    align_corners=st.booleans(),
    convolution=st.sampled_from(CONVOLUTIONS),
    norm=st.sampled_from(NORMS),
    activation=st.sampled_from(ACTIVATIONS),
    channels=st.integers(1, 5),
    concatenates=st.booleans(),
    seed=seeds,
)
def test_folded_head_equals_mmsegmentations(
    height: int,
    width: int,
    bins: tuple[int, ...],
    align_corners: bool,
    convolution: str | None,
    norm: dict[str, Any] | None,
    activation: str | None,
    channels: int,
    concatenates: bool,
    seed: int,
) -> None:
    provide_mmcv_ops()
    from mmseg.models.decode_heads import PSPHead

    assume(channels > 1 or concatenates or convolution not in ("ConvAWS", "ConvWS"))  # no deviation in one weight
    if norm and (norm["type"] == "IN" or ("affine" not in norm and "track_running_stats" in norm)):
        bins = tuple(b + 1 for b in bins)  # one value has no variance, and torch refuses it
        assume(height * width > 1)
    torch.manual_seed(seed)
    inputs = {"in_channels": channels, "in_index": 1}
    if concatenates:
        inputs = {"in_channels": [channels, 2], "in_index": [1, 0], "input_transform": "resize_concat"}
    head = PSPHead(
        pool_scales=bins, channels=4, num_classes=3, conv_cfg=of_type(convolution), norm_cfg=norm,
        act_cfg=of_type(activation), align_corners=align_corners, **inputs,
    )  # fmt: skip
    head = head.double().eval().requires_grad_(False)
    for tensor in [*head.parameters(), *head.buffers()]:
        if tensor.is_floating_point():  # random statistics and weights hide no fault; variances stay positive
            tensor.copy_(random(seed, *tensor.shape).abs() + 0.1)
    maps = [random(seed + 2, 2, 2, height // 2 + 1, width + 3), random(seed + 1, 2, channels, height, width)]
    expected = head(maps)
    make_standardized_plain(head)
    assert (FoldedPyramid(head, height, width)(maps) - expected).abs().max() <= 1e-10 * expected.abs().max()


@given(height=st.integers(1, 300), width=st.integers(1, 300), bins=all_bins)
def test_the_constants_grow_with_the_sides_of_the_map_and_not_with_its_area(
    height: int, width: int, bins: tuple[int, ...]
) -> None:
    provide_mmcv_ops()
    from mmseg.models.decode_heads import PSPHead

    head = PSPHead(pool_scales=bins, in_channels=2, in_index=0, channels=2, num_classes=2, norm_cfg={"type": "BN"})
    folded = FoldedPyramid(head.eval().requires_grad_(False), height, width)
    # A row and a column of each bin's cells: once for pooling, once a tap for spreading.
    assert sum(buffer.numel() for buffer in folded.buffers()) == 4 * sum(bins) * (height + width)


RESNET = {
    "type": "ResNetV1c", "depth": 18, "dilations": [1, 1, 2, 4], "strides": [1, 2, 1, 1], "contract_dilation": True,
    "base_channels": 8, "stem_channels": 8, "norm_cfg": {"type": "SyncBN"},
}  # fmt: skip
HEAD = {"type": "PSPHead", "in_channels": 64, "in_index": 3, "channels": 16, "num_classes": 5}


def network_of(backbone: dict[str, Any], head: dict[str, Any]) -> PSPNet:
    """In float64, with random weights and statistics."""
    torch.manual_seed(0)
    network = {"type": "EncoderDecoder", "backbone": backbone, "decode_head": head}
    check_network(network)
    built = PSPNet(build_inline(network)).double().eval().requires_grad_(False)
    for name, tensor in built.state_dict().items():
        if name.endswith(("running_var", "weight_gamma")):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("bias", "running_mean", "weight_beta")):
            tensor.normal_(0, 0.1)
    return built


HRNET_STAGES = {
    f"stage{n}": {
        "num_modules": 1,
        "num_branches": n,
        "block": "BASIC" if n > 1 else "BOTTLENECK",
        "num_blocks": [1] * n,
        "num_channels": [8 * 2**branch for branch in range(n)],
    }
    for n in (1, 2, 3, 4)
}
VARIATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "group norm": ({}, {"norm_cfg": {"type": "GN", "num_groups": 4}}),
    "group norm in the backbone": ({"norm_cfg": {"type": "GN", "num_groups": 4}}, {"norm_cfg": {"type": "BN"}}),
    "no norm": ({}, {"norm_cfg": None}),
    "not affine": ({"norm_cfg": {"type": "BN", "affine": False}}, {"norm_cfg": {"type": "BN", "affine": False}}),
    "instance norm": ({"norm_cfg": {"type": "IN"}}, {"norm_cfg": {"type": "IN"}, "pool_scales": [2, 3]}),
    "leaky": ({}, {"norm_cfg": {"type": "BN"}, "act_cfg": {"type": "LeakyReLU", "negative_slope": 0.2}}),
    "linear": ({}, {"norm_cfg": {"type": "BN"}, "act_cfg": None}),
    **{
        kind: ({"conv_cfg": {"type": kind}}, {"conv_cfg": {"type": kind}, "norm_cfg": {"type": "BN"}})
        for kind in ("Conv", "Conv2dAdaptivePadding", "ConvAWS", "ConvWS")
    },
    "resize_concat": ({}, {"in_channels": [32, 64], "in_index": [2, 3], "input_transform": "resize_concat"}),
    "HRNet": (
        {"type": "HRNet", "extra": HRNET_STAGES, "norm_cfg": {"type": "BN"}},
        {"in_channels": [8, 16, 32, 64], "in_index": [0, 1, 2, 3], "input_transform": "resize_concat"},
    ),
    "MobileNetV3": ({"type": "MobileNetV3"}, {"in_channels": 576, "in_index": 2}),
    "CGNet": ({"type": "CGNet", "num_channels": [8, 16, 32], "num_blocks": [1, 1]}, {"in_channels": 64, "in_index": 2}),
    "FastSCNN": ({"type": "FastSCNN", "norm_cfg": {"type": "BN"}}, {"in_channels": 128, "in_index": 2}),
    "ResNeSt": ({"type": "ResNeSt", "depth": 50, "stem_channels": 8, "base_channels": 8}, {"in_channels": 256}),
}
AS_WRITTEN: dict[str, tuple[dict[str, Any], str]] = {
    "deconv": ({"conv_cfg": {"type": "deconv"}, "norm_cfg": {"type": "BN"}}, "it has ConvTranspose2d layers"),
    "reflect": ({"conv_cfg": {"type": "Conv2d", "padding_mode": "reflect"}}, "its padding is reflect"),
    "circular": ({"conv_cfg": {"type": "Conv2d", "padding_mode": "circular"}}, "its padding is circular"),
    "layer norm": ({"norm_cfg": {"type": "LN"}, "channels": 8, "pool_scales": [8]}, "it has LayerNorm"),
}


def backbone_of(changes: dict[str, Any]) -> dict[str, Any]:
    return {**RESNET, **changes} if changes.get("type", "ResNeSt") == "ResNeSt" else changes


def exported_forms(network: PSPNet, height: int, width: int) -> Iterator[PSPNet]:
    for change in (with_folded_pyramid, with_matrix_pools):
        changed = change(network, height, width)
        fold_batchnorms(changed, (1, 3, height, width))
        yield changed


@pytest.mark.parametrize("name", VARIATIONS)
def test_every_layer_that_a_card_may_name_exports_as_the_reference(caplog: pytest.LogCaptureFixture, name: str) -> None:
    backbone, head = VARIATIONS[name]
    network = network_of(backbone_of(backbone), {**HEAD, **head})
    image = random(1, 2, 3, 72, 64)
    expected = network(image)
    folded, plain = exported_forms(network, 72, 64)
    assert isinstance(folded.decode_head, FoldedPyramid)
    for changed in (folded, plain):
        assert (changed(image) - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert torch.equal(network(image), expected)
    assert not caplog.messages


@pytest.mark.parametrize("name", AS_WRITTEN)
def test_what_cannot_be_folded_stays_as_written_and_is_logged(caplog: pytest.LogCaptureFixture, name: str) -> None:
    head, words = AS_WRITTEN[name]
    network = network_of(RESNET, {**HEAD, **head})
    image = random(1, 2, 3, 64, 64)
    expected = network(image)
    for changed in exported_forms(network, 64, 64):
        assert isinstance(changed.decode_head.psp_modules[0][0], MatrixPool)
        assert (changed(image) - expected).abs().max() <= 1e-12 * expected.abs().max()
    (told,) = caplog.messages
    assert told.endswith(f"as written, not folded: {words}")


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
