"""Paint the classes over a picture, and a legend next to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.runtimes.images import RGB

_LINE = 22  # height of a line of the legend, in pixels
_LEGEND = 200  # width of the legend, in pixels
_PIXELS_AT_ONCE = 1 << 22


def paint(picture: RGB, labels: NDArray[np.uint8], card: ModelCard, opacity: float) -> None:
    """Paint each class of `labels` [H, W] over the picture itself [H, W, 3], except the card's background.

    `opacity`: how much of a colour covers the picture, 0..1.
    """
    import cv2

    colours = np.array(card.palette, np.uint8)
    for rows in bands(picture):
        band, numbers = picture[rows], labels[rows]
        painted = cv2.addWeighted(band, 1 - opacity, colours[numbers], opacity, 0)
        if card.background_number is not None:
            np.copyto(painted, band, where=(numbers == card.background_number)[:, :, None])
        picture[rows] = painted


def with_legend(picture: RGB, shares: Mapping[str, float], card: ModelCard) -> Pillow.Image:
    """The picture, and on its right a legend of the classes and their shares of it."""
    height, width = picture.shape[:2]
    canvas = Pillow.new("RGB", (width + _LEGEND, max(height, _LINE * (len(shares) + 1))), "white")
    for rows in bands(picture):
        canvas.paste(Pillow.fromarray(picture[rows]), (0, rows.start))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(14)
    colours = dict(zip(card.class_names, card.palette))
    for line, (name, share) in enumerate(shares.items()):
        top = _LINE // 2 + line * _LINE
        draw.rectangle((width + 12, top, width + 26, top + 14), fill=colours[name], outline="black")
        draw.text((width + 34, top - 2), f"{name}  {share:.1%}", fill="black", font=font)
    return canvas


def bands(picture: NDArray[np.uint8]) -> Iterator[slice]:
    """The rows of a picture or label map, some at a time: a large one is not in memory several times."""
    height, width = picture.shape[:2]
    rows = max(1, _PIXELS_AT_ONCE // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))
