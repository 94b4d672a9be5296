"""Make a full-size stand-in for a card's checkpoint, with the same keys, shapes and legacy file format.

The weights are random (seeded) and mean nothing. BatchNorm statistics are calibrated on noise images so that
activations stay in a normal range, and the classifier is centred so that the label map shows several classes. The
file is for tests and benchmarks without the real weights. A card (`model.yml`) that names it is written next to it.

    python scripts/make_standin_checkpoint.py -o standin
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import DEFAULT_MODEL, find_card
from pspnet_convert.files import sha256_of
from pspnet_convert.pytorch.network import PSPNet, build_segmentor

NAME = "standin.pth"


def make_standin(card: ModelCard, folder: Path, seed: int = 0, side: int = 160) -> Path:
    """Write the checkpoint and its card into `folder`; returns the card's path. `side` (pixels) is that of the images
    for calibration, and must be a multiple of 16 (UNet)."""
    torch.manual_seed(seed)
    segmentor = build_segmentor(card.config, card.config_overrides, auxiliary_head=True)
    network = PSPNet(segmentor).eval()
    calibrate(network, blobs(12, side))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    torch.save(
        {
            "meta": {
                "env_info": "stand-in: random weights",
                "seed": seed,
                "mmseg_version": "0.5.0",
                "config": card.config,
                "CLASSES": tuple(card.class_names),
                "PALETTE": [list(colour) for colour in card.palette],
                "epoch": 0,
                "iter": 0,
            },
            # data_preprocessor has no persistent buffers, so these are the old release's keys.
            "state_dict": OrderedDict((name, tensor.contiguous()) for name, tensor in segmentor.state_dict().items()),
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.01, "momentum": 0.9}]},
        },
        path,
        _use_new_zipfile_serialization=False,
    )
    return write_card(card, path)


def blobs(count: int, side: int) -> Tensor:
    """Smooth noise of several sizes, float32 [count, 3, side, side], about as spread as normalised photographs."""
    total = torch.zeros(count, 3, side, side)
    for cells in (4, 16, 64):
        noise = torch.randn(count, 3, cells, cells)
        total += nn.functional.interpolate(noise, size=(side, side), mode="bilinear", align_corners=False)
    return total


@torch.no_grad()
def calibrate(network: PSPNet, images: Tensor) -> None:
    """Set each BatchNorm's statistics to those of `images`, and bring the classifier's logits to one scale.

    There must be at least two images: with one, the pyramid's 1x1 bin has no variance.
    """
    pooled: list[_BatchNorm] = []  # those that see one value for a whole image

    def note_pooled(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        if given[0].shape[2:] == (1, 1):
            pooled.append(norm)

    hooks = []
    for name, norm in network.named_modules():
        if not isinstance(norm, _BatchNorm):
            continue
        # A small residual branch, as training leaves it: with a large one rounding errors grow from block to block.
        top = 0.3 if name.endswith("bn3") else 1.0
        if norm.affine:
            norm.weight.uniform_(top / 2, top)
            norm.bias.normal_(0, 0.1 * top)
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over the calls in training mode: this one
        norm.train()
        hooks.append(norm.register_forward_pre_hook(note_pooled))
    network(images)
    network.eval()
    for hook in hooks:
        hook.remove()
    for norm in pooled:
        # Noise images have equal means, photographs do not: without this the norm would magnify rounding errors.
        norm.running_var.clamp_(min=float(norm.running_mean.square().mean()))
    classifier = network.decode_head.conv_seg
    classifier.bias.zero_()
    logits = network(images).transpose(0, 1).flatten(1)  # [classes, pixels]
    gain = 3 / logits.std(dim=1)
    classifier.weight.mul_(gain[:, None, None, None])
    classifier.bias.copy_(-logits.mean(dim=1) * gain)


def write_card(card: ModelCard, checkpoint: Path) -> Path:
    data: dict[str, Any] = card.model_dump(mode="json", exclude_none=True)
    data["name"] = f"{card.name}-standin"
    data["description"] = "A stand-in with random weights, for tests and benchmarks."
    data["accuracy"] = []
    data["files"] = [
        {
            "name": checkpoint.name,
            "size": checkpoint.stat().st_size,
            "sha256": sha256_of(checkpoint),
            "sources": [checkpoint.name],
        }
    ]
    path = checkpoint.parent / "model.yml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("standin"), help="folder (default: %(default)s)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="the model to imitate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(make_standin(find_card(arguments.model), arguments.output, arguments.seed))


if __name__ == "__main__":
    main()
