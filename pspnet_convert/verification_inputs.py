"""What the models are compared on: photographs that ship with the tool, the card's own data, drawn images.

All of it is the same on every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pspnet_convert.card import ModelCard
from pspnet_convert.contract import ImageShape
from pspnet_convert.images import RGB, fit, read_image, to_bgr

_SAMPLES = Path(__file__).parent / "samples"
_FROM_DATASET = 4


@dataclass(frozen=True)
class VerificationInput:
    """`image` is uint8 BGR [H, W, 3], at the model's size."""

    name: str
    image: RGB


def verification_inputs(card: ModelCard, shape: ImageShape, extra: Sequence[Path] = ()) -> list[VerificationInput]:
    """All inputs at the size of `shape`; ImageError for a file that is no image."""
    height, width = shape[2:]
    pictures = [
        (path.name, fit(read_image(path), height, width, card.input).image) for path in [*photographs(card), *extra]
    ]
    return [VerificationInput(name, to_bgr(image)) for name, image in [*pictures, *drawn(height, width).items()]]


def photographs(card: ModelCard) -> list[Path]:
    """The card's own validation images (a few) if it has any, else the shipped sample photographs."""
    if card.dataset is not None:
        own = sorted((card.folder / card.dataset / "JPEGImages").glob("*.jpg"))[:_FROM_DATASET]
        if own:
            return own
    return sorted(_SAMPLES.glob("*.jpg"))


def drawn(height: int, width: int) -> dict[str, RGB]:
    """Images made to show faults in colour order, mean, scale and resizing."""
    rows, columns = np.mgrid[0:height, 0:width]
    primaries = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 0, 0], [255, 255, 255]])
    patches = primaries[(rows * 2 // height) * 3 + columns * 3 // width]
    ramp = np.stack([columns * 255 // width, rows * 255 // height, (rows // 8 + columns // 8) % 2 * 255], axis=-1)
    return {"colour patches": patches.astype(np.uint8), "ramps and checks": ramp.astype(np.uint8)}
