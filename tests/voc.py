"""Data sets in Pascal VOC's layout for the tests: drawn pictures, annotations of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from demo_data import save_annotation
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.card import ModelCard

Bytes = NDArray[np.uint8]


def drawing(height: int, width: int, seed: int) -> Bytes:
    """Blocks of colour, RGB [height, width, 3]."""
    cells = np.random.default_rng(seed).integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), dtype=np.uint8)
    return cells.repeat(9, axis=0).repeat(9, axis=1)[:height, :width].copy()


def blocks(height: int, width: int, classes: int, seed: int) -> Bytes:
    """Blocks of class numbers [height, width], and some of 255."""
    numbers = np.array([*range(classes), 255], np.uint8)
    cells = np.random.default_rng(seed).integers(0, classes + 1, (height // 7 + 1, width // 7 + 1))
    return numbers[cells].repeat(7, axis=0).repeat(7, axis=1)[:height, :width].copy()


def add(folder: Path, card: ModelCard, name: str, image: Bytes, labels: Bytes) -> None:
    """Add an image to the split `val`."""
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(image).save(image_of(folder, name))
    save_annotation(labels, annotation_of(folder, name), card.palette)
    with listed(folder).open("a") as file:
        file.write(f"{name}\n")


def image_of(folder: Path, name: str) -> Path:
    return folder / "JPEGImages" / f"{name}.png"


def annotation_of(folder: Path, name: str) -> Path:
    return folder / "SegmentationClass" / f"{name}.png"


def listed(folder: Path) -> Path:
    return folder / "ImageSets" / "Segmentation" / "val.txt"


def write(folder: Path, card: ModelCard, sizes: Sequence[tuple[int, int]]) -> Path:
    """An image of each size (height, width), named 000, 001 ..."""
    for number, (height, width) in enumerate(sizes):
        labels = blocks(height, width, len(card.classes), number)
        add(folder, card, f"{number:03}", drawing(height, width, number), labels)
    return folder
