"""Small images with the content of a verification's inputs, on which faults and rounding are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pspnet_convert.commands.verify.kept_prediction import KeptPrediction, keep
from pspnet_convert.errors import ImageError
from pspnet_convert.runtimes.backends import TorchBackend
from pspnet_convert.runtimes.input_form import Image

_SIDE = 96  # pixels: full size takes twenty times as long, and the figures are the same within a factor of 4
_MULTIPLE = 16  # UNet needs sides that are multiples of 16; no other network needs more


@dataclass(frozen=True)
class Probe:
    """An image, and the reference's prediction for it."""

    image: Image
    known: KeptPrediction


def probe(reference: TorchBackend, images: Sequence[Image], folder: Path) -> list[Probe]:
    """A probe for each of `images`: smaller, except for a network that takes one size (BEiT). Logits are kept in
    `folder`."""
    try:
        return _run(reference, [_thinned(image) for image in images], folder)
    except ImageError:
        return _run(reference, images, folder)


def _run(reference: TorchBackend, images: Sequence[Image], folder: Path) -> list[Probe]:
    kept = [keep(one, folder / f"probe-{number}.logits") for number, one in enumerate(reference.run(images))]
    return [Probe(image, known) for image, known in zip(images, kept)]


def _thinned(image: Image) -> Image:
    """Every n-th row and m-th column, so that the sides are at most _SIDE."""
    rows, columns = (_kept_places(side) for side in image.shape[:2])
    return image[rows][:, columns]


def _kept_places(side: int) -> range:
    """All places of a short side; else every n-th, a multiple of _MULTIPLE of them."""
    step = -(-side // _SIDE)
    count = side if step == 1 else side // step // _MULTIPLE * _MULTIPLE
    return range(0, count * step, step)
