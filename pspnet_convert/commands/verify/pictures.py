"""Write a verification's label maps as pictures, and pictures of where they differ from the reference's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.files import slug, write_atomically
from pspnet_convert.runtimes.bands import viewable
from pspnet_convert.runtimes.images import palette_image

if TYPE_CHECKING:
    from pspnet_convert.commands.verify.result import Verification
    from pspnet_convert.manifest_fields import VerifyResult

_TITLE = 22  # pixels
_DIFFERENT = (255, 0, 0)


def write_pictures(result: Verification, card: ModelCard, folder: Path) -> None:
    """Write into `folder`: `<input>.input.png`, and as palette PNGs `<input>.reference.png`, and
    `<input>.<backend>.png` for each model that ran. For golden.py: `<input>.margin.png`, and the image itself as
    `<input>.input.npy` where the picture is not all of it."""
    pictures = {}
    folder.mkdir(exist_ok=True)
    for entry in result.inputs:
        stored = entry.image[:, :, ::-1] if card.input.is_color else entry.image
        shown = viewable(stored)
        if stored.shape != shown.shape or stored.dtype != shown.dtype:
            np.save(folder / f"{entry.name}.input.npy", np.ascontiguousarray(entry.image), allow_pickle=False)
        pictures[f"{entry.name}.input.png"] = Pillow.fromarray(shown)
        pictures[f"{entry.name}.margin.png"] = Pillow.fromarray(result.margins[entry.name])
        pictures[f"{entry.name}.reference.png"] = palette_image(result.labels[entry.name], card)
        for comparison in result.comparisons:
            if entry.name in comparison.labels:
                label_map = palette_image(comparison.labels[entry.name], card)
                pictures[f"{entry.name}.{slug(comparison.backend)}.png"] = label_map
    for name, picture in pictures.items():
        picture.save(folder / name)


def save_differences(folder: Path, result: VerifyResult, target: Path) -> list[Path]:
    """Write a picture to `target` for each input and model with label maps that differ; they are read from `folder`.

    It shows the input, the reference's label map, the model's, and the differing pixels in red. Returns the paths.
    """
    made = []
    for name in result.inputs:
        image, reference = (Pillow.open(folder / f"{name}.{kind}.png") for kind in ("input", "reference"))
        for backend in (row.backend for row in result.comparisons):
            path = folder / f"{name}.{slug(backend)}.png"
            if not path.is_file():
                continue
            found = Pillow.open(path)
            differs = np.asarray(found) != np.asarray(reference)
            if not differs.any():
                continue
            grey = np.asarray(image.convert("L").convert("RGB")) // 2
            marked = np.where(differs[:, :, None], _DIFFERENT, grey).astype(np.uint8)
            panels = {"input": image, "reference": reference, backend: found, "different": Pillow.fromarray(marked)}
            picture = target / f"{name}.{slug(backend)}.difference.png"
            with write_atomically(picture) as (temporary,):
                _side_by_side(panels).save(temporary)
            made.append(picture)
    return made


def _side_by_side(panels: Mapping[str, Pillow.Image]) -> Pillow.Image:
    width, height = next(iter(panels.values())).size
    canvas = Pillow.new("RGB", (len(panels) * (width + 4), height + _TITLE), "white")
    draw = ImageDraw.Draw(canvas)
    for number, (title, panel) in enumerate(panels.items()):
        left = number * (width + 4)
        draw.text((left + 2, 3), title, fill="black", font=ImageFont.load_default(13))
        canvas.paste(panel.convert("RGB"), (left, _TITLE))
    return canvas
