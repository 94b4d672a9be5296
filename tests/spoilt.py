"""The demo's trained network with its numbers spoilt on purpose, so that plain INT8 loses much and float32 nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import yaml

from pspnet_convert.cards.catalog import find_card
from pspnet_convert.files import sha256_of

_CHANNELS = slice(0, 2)  # of each layer
_STAGES, _BLOCKS = range(1, 5), range(2)


def scale_channels(weights: dict[str, Any], block: str, factor: float) -> None:
    """Multiply some channels between a residual block's two convolutions, and divide again: ReLU lets it through.

    A factor of 100 leaves the other channels a hundredth of the INT8 range; one of 0.01 makes outliers of the second
    convolution's weights, which leave its other weights as little.
    """
    for name in ("weight", "bias"):
        weights[f"{block}.bn1.{name}"][_CHANNELS] *= factor
    weights[f"{block}.conv2.weight"][:, _CHANNELS] /= factor


def loud_channels(weights: dict[str, Any]) -> None:
    """In each block some channels are 100 times as large as the others."""
    for stage in _STAGES:
        for block in _BLOCKS:
            scale_channels(weights, f"backbone.layer{stage}.{block}", 100)


def outliers(weights: dict[str, Any]) -> None:
    """Loud channels in the first block, and weights that are outliers in later ones."""
    scale_channels(weights, "backbone.layer1.0", 100)
    for stage in _STAGES[1:]:
        scale_channels(weights, f"backbone.layer{stage}.1", 0.01)


SPOILT = {"loud-channels": loud_channels, "outliers": outliers}


def write_spoilt(folder: Path, kind: str) -> Path:
    """The demo with SPOILT[kind], its card and its data set, in `folder`; returns the folder."""
    demo = find_card("demo")
    shutil.copytree(demo.folder / "voc", folder / "voc")
    checkpoint = torch.load(demo.folder / "demo.pth", map_location="cpu", weights_only=False)
    SPOILT[kind](checkpoint["state_dict"])
    path = folder / "spoilt.pth"
    torch.save(checkpoint, path)
    card = demo.model_dump(mode="json", exclude_none=True)
    file = {"name": path.name, "size": path.stat().st_size, "sha256": sha256_of(path), "sources": [path.name]}
    card.update(name=f"demo-{kind}", files=[file])
    (folder / "model.yml").write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")
    return folder
