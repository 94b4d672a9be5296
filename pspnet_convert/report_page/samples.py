"""Prepare the verification's pictures for the page: inputs, label maps, and where a label map differs."""

from __future__ import annotations

import base64
import io
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFilter

from pspnet_convert.cards.card import ClassLabel, ModelCard
from pspnet_convert.files import slug
from pspnet_convert.manifest_document import ManifestDocument
from pspnet_convert.runtimes.images import palette_image, read_image
from pspnet_convert.verdict import DigestOf

Labels = NDArray[np.uint8]

_FILE = re.compile(r"(?P<name>.+)\.(?P<layer>[a-z0-9-]+)\.png")
_THUMBNAIL = 96  # pixels
_QUALITY = 90
log = logging.getLogger(__name__)

# Palette of marks_picture: transparent, the ring, the pixel. The mark is visible on any class's colour.
_MARK = (0, 0, 0, 255, 255, 255, 214, 0, 110)


@dataclass(frozen=True)
class Share:
    """A class's part of a picture, 0..1. `color`: RGB."""

    name: str
    color: Sequence[int]
    share: float


@dataclass(frozen=True)
class Layer:
    """A model's label map. `labels` and `marks` are data URIs of pictures; `marks` shows the `differing` pixels."""

    key: str
    title: str
    labels: str
    marks: str | None
    differing: int


@dataclass(frozen=True)
class Sample:
    """One picture with its layers, the reference first. Pictures are data URIs; `shares` are the reference's."""

    name: str
    width: int
    height: int
    image: str
    thumbnail: str
    layers: Sequence[Layer]
    shares: Sequence[Share]


def read_samples(manifest: ManifestDocument, folder: Path, digest_of: DigestOf) -> list[Sample]:
    """The pictures of the manifest's verify stage. One that is missing or has changed is left out and logged."""
    verification = manifest.stages.get("verify")
    if verification is None:
        return []
    titles = {slug(row.backend): row.backend for row in verification.result.comparisons}
    files: dict[str, dict[str, Path]] = {}
    for output in verification.outputs:
        parts = _FILE.fullmatch(Path(output.file).name)
        path = folder / output.file
        if parts is None:
            continue
        if not path.is_file() or digest_of(path) != output.sha256:
            log.warning(
                "%s is missing or has changed; the page leaves it out. Run `pspnet-convert verify` to make it again.",
                path,
            )
            continue
        files.setdefault(parts["name"], {})[parts["layer"]] = path
    whole = {name: layers for name, layers in files.items() if {"input", "reference"} <= set(layers)}
    shown = [name for name in verification.result.inputs if name in whole]
    return [_sample(name, whole[name], titles, manifest.model) for name in shown]


def most_telling(samples: Sequence[Sample]) -> int:
    """The number of the picture with the most classes; the page shows it first."""
    return max(range(len(samples)), key=lambda place: len(samples[place].shares), default=0)


def _sample(name: str, files: Mapping[str, Path], titles: Mapping[str, str], card: ModelCard) -> Sample:
    image = Pillow.fromarray(read_image(files["input"]))
    reference = _read_labels(files["reference"])
    layers = [Layer("reference", "Reference", _labels_uri(reference, card), None, 0)]
    for key, title in titles.items():
        if key not in files:  # the model did not run
            continue
        found = _read_labels(files[key])
        differs = found != reference
        marks = _png_uri(marks_picture(differs), 0) if differs.any() else None
        layers.append(Layer(key, title, _labels_uri(found, card), marks, int(differs.sum())))
    thumbnail = image.copy()
    thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
    width, height = image.size
    return Sample(name, width, height, _jpeg_uri(image), _jpeg_uri(thumbnail), layers, _shares(reference, card.classes))


def _shares(labels: Labels, classes: Sequence[ClassLabel]) -> list[Share]:
    """The classes that occur, largest first."""
    counts = np.bincount(labels.ravel(), minlength=len(classes))
    return [
        Share(classes[number].name, classes[number].color, counts[number] / labels.size)
        for number in np.argsort(-counts, kind="stable")
        if counts[number]
    ]


def _read_labels(path: Path) -> Labels:
    with Pillow.open(path) as image:
        return np.asarray(image)


def _labels_uri(labels: Labels, card: ModelCard) -> str:
    """The label map in the classes' colours; the card's background is transparent, as in `segment`."""
    return _png_uri(palette_image(labels, card), card.background_number)


def marks_picture(differs: NDArray[np.bool_]) -> Pillow.Image:
    """A palette picture: 2 at and around differing pixels (so that they are seen), 1 in a ring around them, else 0."""
    mask = Pillow.fromarray(differs.astype(np.uint8) * 255)
    ring, inner = (np.asarray(mask.filter(ImageFilter.BoxBlur(reach))) > 0 for reach in (3, 1))
    image = Pillow.fromarray(ring.astype(np.uint8) + inner)
    image.putpalette(_MARK)
    return image


def _jpeg_uri(image: Pillow.Image) -> str:
    return _uri(image, "jpeg", quality=_QUALITY)


def _png_uri(image: Pillow.Image, transparent: int | None) -> str:
    """`transparent`: the place in the palette of the colour that is not shown, if there is one."""
    return _uri(image, "png", **({} if transparent is None else {"transparency": transparent}))


def _uri(image: Pillow.Image, form: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"
