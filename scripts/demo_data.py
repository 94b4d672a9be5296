"""The demo model's data: handwritten digits, as stickers on photographs, and the validation set's files.

Training and validation share neither a scan of a digit nor a photograph. Drawing needs scikit-image and scikit-learn
(`pip install -e .[train]`).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

SIDE = 200
VOID = 255
Split = Literal["train", "val"]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

# Functions of skimage.data. Each picture is in scikit-image's wheel, and is CC0 or in the public domain.
PHOTOGRAPHS: dict[Split, tuple[str, ...]] = {
    "train": ("astronaut", "rocket", "hubble_deep_field", "brick", "gravel", "clock", "retina"),
    "val": ("chelsea", "coffee", "camera", "grass"),
}
# load_digits keeps the order of its writers: the last scans are mostly by other people than the first.
TRAIN_SCANS = 1300
# The greatest size of a digit (pixels) by the number of digits in the image, so that all find a place.
GREATEST = {1: 140, 2: 115, 3: 100, 4: 90, 5: 80}
SMALLEST = 55
GREATEST_ANGLE = 25.0
# A white rim around each digit (pixels, grey value). Without it a network as small as this one needs far longer
# to learn what is stuck on and what belongs to the photograph.
RIM = 3
PAPER = 245
TRAINING_COUNTS = (0.1, 0.1, 0.15, 0.25, 0.4)  # how often an image gets 1, 2, … digits; many digits train faster


@dataclass(frozen=True)
class Supply:
    """What one split draws from: photographs (RGB), and scans by digit (each uint8 [n, 8, 8], ink 0..255)."""

    photographs: list[Image.Image]
    scans: list[Bytes]


def load_supply(split: Split) -> Supply:
    # Imported here, so that `train_demo.py --evaluate` runs without these packages.
    import skimage.data
    from sklearn.datasets import load_digits

    digits = load_digits()
    part = slice(None, TRAIN_SCANS) if split == "train" else slice(TRAIN_SCANS, None)
    scans = np.round(digits.images[part] * (255 / 16)).astype(np.uint8)
    labels = digits.target[part]
    pictures = [Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOGRAPHS[split]]
    return Supply([picture.convert("RGB") for picture in pictures], [scans[labels == digit] for digit in range(10)])


def draw(supply: Supply, digits: Sequence[int], rng: np.random.Generator, augment: bool) -> tuple[Bytes, Bytes]:
    """One image, RGB uint8 [SIDE, SIDE, 3], and its label map, uint8 [SIDE, SIDE].

    A digit d is labelled d + 1, its antialiased edge VOID, the rim background. A digit that finds no free place is
    left out. `augment` varies colours and the digits' proportions, for training.
    """
    canvas = background(supply.photographs, rng, augment)
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for digit in digits:
        scans = supply.scans[digit]
        size = int(rng.integers(SMALLEST, GREATEST[len(digits)], endpoint=True))
        coverage = ink(scans[rng.integers(len(scans))], size, rng, augment)
        place = free_place(labels, coverage, rng)
        if place is not None:
            paint(canvas[place], labels[place], coverage, digit + 1, rng)
    if augment:
        canvas += rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(0, 6))
    return np.clip(canvas, 0, 255).round().astype(np.uint8), labels


def background(photographs: Sequence[Image.Image], rng: np.random.Generator, augment: bool) -> Floats:
    """A square cut of a photograph, maybe mirrored, float32 [SIDE, SIDE, 3], 0..255."""
    photograph = photographs[rng.integers(len(photographs))]
    side = int(rng.integers(SIDE * 3 // 4, min(photograph.size), endpoint=True))
    left, top = (int(rng.integers(0, extent - side, endpoint=True)) for extent in photograph.size)
    cut = photograph.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    if augment:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            cut = enhance(cut).enhance(float(rng.uniform(0.6, 1.4)))
    pixels = np.asarray(cut, np.float32)
    if augment:
        pixels = pixels[:, :, rng.permutation(3)] * rng.uniform(0.7, 1.2, 3).astype(np.float32)
        pixels = np.rot90(pixels, rng.integers(4))
    return pixels[:, :: rng.choice((1, -1))].copy()


def ink(scan: Bytes, size: int, rng: np.random.Generator, augment: bool) -> Floats:
    """The share of each pixel that a scan [8, 8], `size` pixels high, covers: float32 [h, w], 0..1, margin of RIM."""
    pad = 2  # cells of paper around the scan, so that the resize does not cut its strokes off
    stretch = float(rng.uniform(0.85, 1.2)) if augment else 1.0
    high = size * (8 + 2 * pad) // 8
    grey = Image.fromarray(np.pad(scan, pad)).resize((round(high * stretch), high), Image.Resampling.BICUBIC)
    if augment:
        shear = float(rng.uniform(-0.15, 0.15))
        affine = (1, shear, -shear * high / 2, 0, 1, 0)
        grey = grey.transform(grey.size, Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
    angle = float(rng.uniform(-GREATEST_ANGLE, GREATEST_ANGLE))
    grey = grey.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    threshold = float(rng.uniform(0.3, 0.5)) if augment else 0.4
    # Ink rises over about one cell of the scan, size / 8 pixels: this slope makes an edge of 1.5 pixels.
    slope = size / 8 / 1.5
    coverage = np.clip((np.asarray(grey, np.float32) / 255 - threshold) * slope + 0.5, 0, 1)
    rows, columns = (np.flatnonzero(coverage.any(axis=axis)) for axis in (1, 0))
    return np.pad(coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], RIM)


def free_place(
    labels: Bytes, coverage: Floats, rng: np.random.Generator, tries: int = 20
) -> tuple[slice, slice] | None:
    """A place in `labels` where a digit of this coverage touches no other, or None."""
    height, width = coverage.shape
    if height > SIDE or width > SIDE:
        return None
    for _ in range(tries):
        top = int(rng.integers(0, SIDE - height, endpoint=True))
        left = int(rng.integers(0, SIDE - width, endpoint=True))
        place = slice(top, top + height), slice(left, left + width)
        if not labels[place].any():
            return place
    return None


def paint(canvas: Floats, labels: Bytes, coverage: Floats, label: int, rng: np.random.Generator) -> None:
    """Stick a digit with a white rim onto `canvas` [h, w, 3] and write it into `labels` [h, w], both in place."""
    height, width = coverage.shape
    across = np.linspace(-1, 1, width)[None, :] * rng.uniform(-15, 15)
    down = np.linspace(-1, 1, height)[:, None] * rng.uniform(-15, 15)
    tint = np.array(hsv_to_rgb(rng.uniform(), rng.uniform(0.6, 1), rng.uniform(0.6, 1))) * 255
    rim = widen(coverage)[..., None]
    opacity = coverage[..., None]
    canvas[:] = canvas * (1 - rim) + PAPER * rim
    canvas[:] = canvas * (1 - opacity) + (tint + (across + down)[..., None]) * opacity
    labels[coverage > 0.1] = VOID
    labels[coverage > 0.9] = label


def widen(coverage: Floats) -> Floats:
    """The coverage of a shape that is RIM pixels wider on every side."""
    grey = Image.fromarray((coverage * 255).astype(np.uint8))
    wide = grey.filter(ImageFilter.MaxFilter(2 * RIM + 1)).filter(ImageFilter.GaussianBlur(0.7))
    return np.asarray(wide, np.float32) / 255


def draw_training_batch(supply: Supply, count: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """Images, RGB uint8 [count, SIDE, SIDE, 3], and label maps, uint8 [count, SIDE, SIDE]."""
    counts = rng.choice(np.arange(1, 6), size=count, p=TRAINING_COUNTS)
    pairs = [draw(supply, rng.integers(10, size=n).tolist(), rng, augment=True) for n in counts]
    return np.stack([image for image, _ in pairs]), np.stack([labels for _, labels in pairs])


def write_validation_set(folder: Path, count: int, seed: int, palette: Sequence[Sequence[int]]) -> None:
    """Fill `folder` with `count` images in Pascal VOC's layout; an older set there is replaced.

    The digits are dealt like cards, so that all are about equally frequent.
    """
    rng = np.random.default_rng(seed)
    supply = load_supply("val")
    images, annotations, lists = (
        folder / name for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
    )
    for part in (images, annotations, lists):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    deck = np.concatenate([rng.permutation(10) for _ in range(count)]).tolist()
    names = [f"digits_{index:03}" for index in range(1, count + 1)]
    for name in names:
        digits = [deck.pop() for _ in range(rng.integers(1, 6))]
        pixels, labels = draw(supply, digits, rng, augment=False)
        Image.fromarray(pixels).save(images / f"{name}.jpg", quality=92)
        save_annotation(labels, annotations / f"{name}.png", palette)
    (lists / "val.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def save_annotation(labels: Bytes, path: Path, palette: Sequence[Sequence[int]]) -> None:
    """A palette PNG whose indices are the labels; VOID has Pascal VOC's cream colour."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    colours[VOID] = (224, 224, 192)
    picture = Image.fromarray(labels)
    picture.putpalette(colours.tobytes())
    picture.save(path, optimize=True)
