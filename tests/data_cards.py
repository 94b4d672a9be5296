"""Cards for tests of data sets, and trees of files for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from conftest import write_small_card
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.card import ModelCard, load_card

Names = Sequence[str]


def card_with(
    folder: Path, classes: int | Names = 5, palette: Sequence[Sequence[int]] | None = None, **notes: Any
) -> ModelCard:
    """A card of so many classes, or of these, with annotations of these fields. It has no checkpoint."""
    names = [f"class{number}" for number in range(classes)] if isinstance(classes, int) else list(classes)
    colours = palette or [[number, 100, 200] for number in range(len(names))]
    labels = [{"name": name, "color": list(colour)} for name, colour in zip(names, colours)]
    output = {"name": "argmax", "shape": [1, 1, 72, 64], "layout": "NCHW", "values": [0, len(names) - 1]}
    return load_card(write_small_card(folder, classes=labels, output=output, annotations=notes))


def tree(root: Path, *paths: str) -> Path:
    """Empty files below `root`."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def save(path: Path, values: Any, mode: str | None = None) -> Path:
    """An array as a picture. `mode` P gives it a palette that shows nothing of the values."""
    array: NDArray[Any] = np.asarray(values)
    picture = Pillow.fromarray(array)
    if mode == "P":
        picture.putpalette([value for number in range(256) for value in (255 - number, 7, 7)])
    elif mode is not None:
        picture = picture.convert(mode)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path
