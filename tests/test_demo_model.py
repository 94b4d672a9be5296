"""The shipped demo model: its card, its checkpoint, its validation set, and the figures in the card."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.network import PSPNet, build_network

VOID = 255
MAX_CHECKPOINT_BYTES = 4_000_000
MAX_DATASET_BYTES = 1_200_000


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return find_card("demo")


@pytest.fixture(scope="module")
def network(card: ModelCard) -> PSPNet:
    return build_network(card, load_checkpoint(card.folder / card.checkpoint.name, card))


def names_of(card: ModelCard) -> list[str]:
    listed = card.folder / str(card.dataset) / "ImageSets" / "Segmentation" / "val.txt"
    return listed.read_text(encoding="utf-8").split()


def picture(card: ModelCard, name: str) -> Image.Image:
    return Image.open(card.folder / str(card.dataset) / "JPEGImages" / f"{name}.jpg")


def annotation(card: ModelCard, name: str) -> Image.Image:
    return Image.open(card.folder / str(card.dataset) / "SegmentationClass" / f"{name}.png")


def test_the_card_names_eleven_classes_in_distinct_colours(card: ModelCard) -> None:
    assert card.name == "demo"
    assert card.class_names[0] == "background"
    assert card.palette[0] == (0, 0, 0)
    assert len(set(card.palette)) == len(card.classes) == 11


def test_the_checkpoint_is_the_file_of_the_card_and_small(card: ModelCard) -> None:
    assert card.checkpoint.sources == [card.checkpoint.name], "it is in the card's folder, nothing is downloaded"
    content = (card.folder / card.checkpoint.name).read_bytes()
    assert len(content) == card.checkpoint.size <= MAX_CHECKPOINT_BYTES
    assert hashlib.sha256(content).hexdigest() == card.checkpoint.sha256
    assert hashlib.sha384(content).hexdigest() == card.checkpoint.sha384


def test_the_checkpoint_agrees_with_the_card_and_holds_nothing_else(card: ModelCard, network: PSPNet) -> None:
    checkpoint = load_checkpoint(card.folder / card.checkpoint.name, card)
    assert checkpoint.warnings == ()
    assert checkpoint.metadata.classes == card.class_names
    assert checkpoint.metadata.palette == [list(colour) for colour in card.palette]
    assert checkpoint.metadata.config == card.config
    assert list(checkpoint.weights.values) == list(network.state_dict())
    for tensor in map(checkpoint.load, checkpoint.weights.values):
        assert tensor.is_contiguous()
        assert tensor.dtype in (torch.float32, torch.int64)  # int64: BatchNorm's num_batches_tracked


def test_every_listed_image_has_its_two_files_and_there_are_no_others(card: ModelCard) -> None:
    names = names_of(card)
    folder = card.folder / str(card.dataset)
    assert len(names) == len(set(names)) >= 24
    assert f"({len(names)} images)" in card.accuracy[0].dataset
    for part, suffix in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
        assert sorted(path.name for path in (folder / part).iterdir()) == sorted(name + suffix for name in names)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= MAX_DATASET_BYTES


def test_annotations_are_palette_pictures_of_the_cards_classes(card: ModelCard) -> None:
    seen: set[int] = set()
    for name in names_of(card):
        image, labels = picture(card, name), annotation(card, name)
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (card.input.width, card.input.height))
        assert (labels.format, labels.mode, labels.size) == ("PNG", "P", image.size)
        palette = labels.getpalette() or []
        assert palette[: 3 * len(card.classes)] == [value for colour in card.palette for value in colour]
        here = set(np.unique(np.asarray(labels)).tolist())
        assert len(here - {0, VOID}) >= 1, f"{name} shows no digit"
        seen |= here
    assert seen == {*range(len(card.classes)), VOID}


def test_the_mean_iou_is_the_cards_and_good(card: ModelCard) -> None:
    from train_demo import measure

    score = measure(card.folder / card.checkpoint.name)
    assert score.mean_iou == pytest.approx(card.accuracy[0].value, abs=0.05)
    assert score.mean_iou >= 70
    assert min(iou or 0 for iou in score.ious.values()) >= 50, "no class is given up"


def test_batch_norm_statistics_are_sane(network: PSPNet) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            assert module.running_var.min() > 1e-6, f"{name} divides by next to nothing"
            assert module.running_mean.abs().max() < 100, name


def test_gflops_and_mparams_are_those_of_the_network(card: ModelCard, network: PSPNet) -> None:
    work = {"operations": 0, "parameters": 0}

    def count(conv: nn.Module, _: object, output: torch.Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        work["operations"] += 2 * conv.weight.numel() * output.shape[2] * output.shape[3]
        work["parameters"] += conv.weight.numel() + conv.out_channels

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    network(torch.zeros(card.input.shape))
    for hook in hooks:
        hook.remove()
    assert card.gflops == pytest.approx(work["operations"] / 1e9, abs=1e-4)
    assert card.mparams == pytest.approx(work["parameters"] / 1e6, abs=1e-4)
