"""Segment pictures with an IR: for each, paint an overlay with a legend and write the label map as a palette PNG."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.files import write_atomically
from pspnet_convert.runtimes.backends import Backend
from pspnet_convert.runtimes.images import (
    RGB,
    Fitted,
    fit,
    free_name,
    palette_image,
    read_image,
    resized_labels,
    to_bgr,
)
from pspnet_convert.runtimes.input_form import Image, ImageShape

_OPACITY = 0.7
_LINE = 22  # height of a line of the legend, in pixels
_LEGEND = 200  # width of the legend, in pixels


@dataclass(frozen=True)
class Segmented:
    """The result for one picture. `shares`: each class's part of its area, 0..1, by class name, largest first."""

    image: Path
    overlay: Path
    labels: Path
    shares: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        files = {"image": str(self.image), "overlay": str(self.overlay), "labels": str(self.labels)}
        return {**files, "shares": self.shares}


def paint_images(
    backend: Backend, card: ModelCard, shape: ImageShape, images: Sequence[Path], folder: Path
) -> Iterator[Segmented]:
    """Write `<stem>.overlay.png` and `<stem>.labels.png` of each picture into `folder`.

    Both have the picture's size; the overlay has a legend on its right. ImageError for a file that is no picture.
    """
    height, width = shape[2:]
    taken: set[str] = set()
    waiting: deque[tuple[Path, RGB, Fitted]] = deque()

    def shown() -> Iterator[Image]:
        for path in images:
            picture = read_image(path)
            fitted = fit(picture, height, width, card.input)
            waiting.append((path, picture, fitted))
            yield to_bgr(fitted.image)

    for prediction in backend.run(shown()):
        path, picture, fitted = waiting.popleft()
        labels = resized_labels(fitted.crop(prediction.labels), *picture.shape[:2])
        stem = free_name(path.stem, taken)
        overlay, label_map = folder / f"{stem}.overlay.png", folder / f"{stem}.labels.png"
        shares = _shares(labels, card)
        with write_atomically(overlay, label_map) as (overlay_made, labels_made):
            _with_legend(_blend(picture, labels, card), shares, card).save(overlay_made)
            palette_image(labels, card).save(labels_made)
        yield Segmented(path, overlay, label_map, shares)


def _shares(labels: NDArray[np.uint8], card: ModelCard) -> dict[str, float]:
    counts = np.bincount(labels.ravel(), minlength=len(card.classes))
    order = np.argsort(-counts, kind="stable")
    return {card.class_names[i]: float(counts[i] / labels.size) for i in order if counts[i]}


def _blend(picture: RGB, labels: NDArray[np.uint8], card: ModelCard) -> RGB:
    """Paint the classes over the picture, except class 0."""
    colours = np.array(card.palette, np.float32)[labels]
    mixed = (1 - _OPACITY) * picture + _OPACITY * colours
    return np.where(labels[:, :, None] > 0, mixed, picture).round().astype(np.uint8)


def _with_legend(image: RGB, shares: dict[str, float], card: ModelCard) -> Pillow.Image:
    height, width = image.shape[:2]
    canvas = Pillow.new("RGB", (width + _LEGEND, max(height, _LINE * (len(shares) + 1))), "white")
    canvas.paste(Pillow.fromarray(image))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(14)
    colours = dict(zip(card.class_names, card.palette))
    for line, (name, share) in enumerate(shares.items()):
        top = _LINE // 2 + line * _LINE
        draw.rectangle((width + 12, top, width + 26, top + 14), fill=colours[name], outline="black")
        draw.text((width + 34, top - 2), f"{name}  {share:.1%}", fill="black", font=font)
    return canvas
