"""The reference is mmsegmentation's own network, and gives the same answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Cli, write_small_card

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.errors import DependencyError
from pspnet_convert.pytorch.batchnorm import fold_batchnorms
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.network import PSPNet, build_network, build_segmentor
from pspnet_convert.pytorch.rewrites.pyramid import with_folded_pyramid


def test_logits_are_those_of_mmsegmentation_in_test_mode_whole(small: ModelCard) -> None:
    checkpoint = load_checkpoint(small.folder / small.checkpoint.name, small)
    theirs = build_segmentor(small.config, small.config_overrides, auxiliary_head=True).eval()
    theirs.load_state_dict(dict(torch.load(checkpoint.path, weights_only=True)["state_dict"]))
    assert theirs.test_cfg.mode == "whole"
    image = torch.randn(1, 3, 72, 64, generator=torch.Generator().manual_seed(0))
    shape = {"ori_shape": (72, 64), "img_shape": (72, 64), "pad_shape": (72, 64), "padding_size": [0, 0, 0, 0]}
    with torch.no_grad():
        expected = theirs.inference(image, [shape])
        # `inference` gives logits at the image's size, as our network does.
        assert torch.equal(build_network(small, checkpoint)(image), expected)


@pytest.mark.parametrize(
    ("config", "height", "width"),
    [
        ("fastfcn/fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024.py", 72, 104),  # a neck
        ("unet/unet-s5-d16_pspnet_4xb4-40k_drive-64x64.py", 64, 48),  # the head takes the last of five maps
        ("mobilenet_v2/mobilenet-v2-d8_pspnet_4xb4-160k_ade20k-512x512.py", 65, 81),
        ("pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-769x769.py", 65, 81),  # align_corners
    ],
)
def test_every_kind_of_network_gives_mmsegmentations_answer_folded_and_not(
    config: str, height: int, width: int
) -> None:
    torch.manual_seed(0)
    theirs = build_segmentor(config, {}).eval().requires_grad_(False)
    theirs.test_cfg.mode = "whole"
    for name, norm in theirs.named_buffers():
        if name.endswith("running_var"):
            norm.uniform_(0.5, 2)
    image = torch.randn(1, 3, height, width)
    meta = {"ori_shape": (height, width), "img_shape": (height, width), "padding_size": [0, 0, 0, 0]}
    expected = theirs.inference(image, [meta])
    ours = PSPNet(theirs)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    assert torch.equal(ours(image), expected)
    folded = with_folded_pyramid(ours, height, width)
    fold_batchnorms(folded, (1, 3, height, width))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert (folded(image) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_parameters_are_those_of_the_card() -> None:
    card = find_card()
    with torch.device("meta"):
        whole = build_segmentor(card.config, {}, auxiliary_head=True)
        network = build_segmentor(card.config, {})
    # facts: 48.977 M with the auxiliary head. Folding turns each BatchNorm's four vectors into one bias, so that
    # the card's figure is the network's less one vector per BatchNorm.
    assert sum(p.numel() for p in whole.parameters()) / 1e6 == pytest.approx(48.977, abs=5e-4)
    folded = sum(p.numel() for name, p in network.named_parameters()) - sum(
        module.num_features for module in network.modules() if hasattr(module, "running_mean")
    )
    assert folded / 1e6 == pytest.approx(card.mparams, abs=5e-3)


def test_no_sync_batchnorm_and_no_auxiliary_head_is_left(small: ModelCard) -> None:
    segmentor = build_segmentor(small.config, small.config_overrides)
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in segmentor.modules())
    assert not segmentor.with_auxiliary_head


def test_the_placeholder_for_mmcv_ops_raises_when_something_of_it_is_called() -> None:
    build_segmentor(find_card("demo").config, find_card("demo").config_overrides)
    operations = sys.modules["mmcv.ops"]
    if not type(operations).__module__.startswith("pspnet_convert"):
        assert hasattr(operations, "point_sample")  # the full mmcv is installed, and is used
        return
    with pytest.raises(DependencyError, match=r"mmcv\.ops\.point_sample was called"):
        operations.point_sample(None)
    with pytest.raises(AttributeError):
        _ = operations.__wrapped__


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": "pspnet/no_such.py"}, "ships no 'pspnet/no_such.py'"),
        ({"config_overrides": {"model.decode_head.channels": "wide"}}, "config_overrides"),
        ({"config_overrides": {"model.decode_head.nonsense": 3}}, "does not build"),
        (
            {"config_overrides": {"model.backbone.base_channels": -8}},
            "does not build: Trying to create tensor with neg",
        ),
        ({"config_overrides": {"model.backbone.out_indices": [9]}}, "does not build: AssertionError"),
        ({"config_overrides": {**SMALL, "model.decode_head.in_index": 77}}, "does not run on images of [1, 3, 72, 64]"),
        ({"config_overrides": {**SMALL, "model.decode_head.align_corners": 3}}, "does not run on images of"),
        ({"config_overrides": {**SMALL, "model.backbone.strides": [0, 0, 0, 0]}}, "does not run on images of"),
        ({"config_overrides": {**SMALL, "model.decode_head.pool_scales": [-1]}}, "does not run on images of"),
        ({"config_overrides": {**SMALL, "model.decode_head.pool_scales": [9999]}}, "has more than 1024 cells"),
        ({"config_overrides": {**SMALL, "model.decode_head.num_classes": 6}}, "has 6 classes, the card lists 5"),
        ({"config_overrides": {}, "config": "fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py"}, "its head is a FCNHead"),
    ],
)
def test_a_card_whose_network_cannot_be_built(
    cli: Cli, small: ModelCard, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    card = write_small_card(tmp_path, **changes)
    checkpoint = small.folder / small.checkpoint.name
    result = cli("export-onnx", card, "-o", tmp_path, "--checkpoint", checkpoint, "--allow-unknown-checkpoint")
    assert result.exit_code == 3
    assert words in result.error
    assert not list(tmp_path.rglob("*.onnx"))
