"""Segment pictures with an IR: for each, paint an overlay with a legend and write the label map as a palette PNG."""

from __future__ import annotations

import logging
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
from pspnet_convert.errors import ImageError
from pspnet_convert.files import write_atomically
from pspnet_convert.runtimes.backends import Backend
from pspnet_convert.runtimes.bands import viewable
from pspnet_convert.runtimes.images import RGB, Size, fit, free_name, palette_image
from pspnet_convert.runtimes.input_form import Image, ImageShape
from pspnet_convert.runtimes.merging import Answer, Merge, OneLabelMap, Windows
from pspnet_convert.runtimes.model_images import ModelImages
from pspnet_convert.runtimes.test_pipeline import MmsegPipeline, Prepared, windows

log = logging.getLogger(__name__)
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


@dataclass(frozen=True)
class _Given:
    """What the model is given of a picture: one image, or several windows. `merge` takes its label maps.

    `picture`: what the overlay is painted on. Where the channels are no colours, the first three are shown as colours,
    or the first alone in grey.

    `wanted`: the size that the test pipeline gives, if the model does not take it and the picture is fitted instead.
    """

    picture: RGB
    images: Sequence[Image]
    merge: Merge
    wanted: Size | None = None


def paint_images(
    backend: Backend, card: ModelCard, shape: ImageShape, images: Sequence[Path], folder: Path
) -> Iterator[Segmented]:
    """Write `<stem>.overlay.png` and `<stem>.labels.png` of each picture into `folder`.

    Both have the picture's size. The overlay is painted on the picture as people can see it (_Given.picture), and has a
    legend on its right. A picture is prepared by the card's test pipeline if that gives images of the model's size;
    else it is fitted into that size, and a warning says so. ImageError for a file that is no picture.
    """
    size = shape[2:]
    pipeline, files = MmsegPipeline(card.mmseg_test, card.input) if card.mmseg_test else None, ModelImages.of(card)
    taken: set[str] = set()
    waiting: deque[tuple[Path, _Given]] = deque()

    def shown() -> Iterator[Image]:
        wanted = []
        for path in images:
            given = _given(path, card, size, pipeline, files)
            waiting.append((path, given))
            wanted += [given.wanted] if given.wanted is not None else []
            yield from given.images
        if wanted:
            _warn_of_fitted(wanted, len(images), size)

    predictions = backend.run(shown())
    for prediction in predictions:
        path, given = waiting.popleft()
        given.merge.add(Answer(prediction.labels))
        for _ in given.images[1:]:
            given.merge.add(Answer(next(predictions).labels))
        labels = given.merge.label_maps()["label map"]
        stem = free_name(path.stem, taken)
        overlay, label_map = folder / f"{stem}.overlay.png", folder / f"{stem}.labels.png"
        shares = _shares(labels, card)
        with write_atomically(overlay, label_map) as (overlay_made, labels_made):
            _with_legend(_blend(given.picture, labels, card), shares, card).save(overlay_made)
            palette_image(labels, card).save(labels_made)
        yield Segmented(path, overlay, label_map, shares)


def _given(path: Path, card: ModelCard, size: Size, pipeline: MmsegPipeline | None, files: ModelImages) -> _Given:
    image = files.read(path)
    picture = viewable(image)
    whole = picture.shape[0], picture.shape[1]
    wanted: Size | None = None
    if pipeline is not None and card.mmseg_test is not None:
        prepared = _prepared(path, image, pipeline, files)
        places = windows(prepared.size, card.mmseg_test)
        parts = [prepared.image[place] for place in places]
        if all(part.shape[:2] == size for part in parts):
            merge = Windows(places, prepared, whole, len(card.classes), align=False)
            return _Given(picture, parts, merge)
        wanted = parts[0].shape[0], parts[0].shape[1]
    fitted = fit(image, *size, card.input)
    return _Given(
        picture, [files.reversed_colours(fitted.image)], OneLabelMap((fitted.height, fitted.width), whole), wanted
    )


def _prepared(path: Path, image: Image, pipeline: MmsegPipeline, files: ModelImages) -> Prepared:
    try:
        return pipeline.prepare(path)
    except ImageError:
        if not files.is_picture(path):
            raise
        # mmsegmentation may not read its format.
        return pipeline.prepare_decoded(files.reversed_colours(image), str(path))


def _warn_of_fitted(wanted: Sequence[Size], images: int, size: Size) -> None:
    log.warning(
        "%d of %d images are fitted into %dx%d and padded, which is not what the card's test pipeline does: "
        "it gives %dx%d, for example",
        *(len(wanted), images, *reversed(size), *reversed(wanted[0])),
    )


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
