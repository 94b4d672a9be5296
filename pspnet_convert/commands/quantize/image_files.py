"""Find the images that calibrate an INT8 IR: in a folder and those in it, or in a list file."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np
from PIL import Image as Pillow

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ImageError, count
from pspnet_convert.files import printable_name
from pspnet_convert.runtimes.images import DATASET_SUFFIXES
from pspnet_convert.runtimes.model_images import ModelImages

_NAMED = 5  # files, in a warning
Some = TypeVar("Some")
log = logging.getLogger(__name__)


def find_images(source: Path, *, warns: bool) -> list[Path]:
    """The images in the folder `source` and the folders in it, or in the list file `source`, in order.

    `warns`: one warning names a folder's files that are no images. ImageError where `source` is neither a folder nor a
    list file, or cannot be read.
    """
    return _listed(source) if source.is_file() else _below(source, warns=warns)


def usable_images(card: ModelCard, images: Sequence[Path], number: int) -> list[Path]:
    """At most `number` of `images` that the model can be given, evenly spread over them, in their order.

    In the place of one that cannot be used others are taken. One warning names it, and why. Raises the first ImageError
    if none can be read.
    """
    files = ModelImages.of(card)
    left: Sequence[int] = range(len(images))  # places
    usable: list[int] = []
    faults = []
    while left and len(usable) < number:
        chosen = evenly_spread(left, number - len(usable))
        for place in chosen:
            try:
                files.read(images[place])
            except ImageError as error:
                faults.append(error)
            else:
                usable.append(place)
        left = sorted({*left} - {*chosen})
    if faults and not usable:
        raise faults[0]
    if faults:
        them = "it" if len(faults) == 1 else "them"
        _warn(f"{count(len(faults), 'image')} cannot be used, and no INT8 IR sees {them}", [one.what for one in faults])
    return [images[place] for place in sorted(usable)]


def evenly_spread(some: Sequence[Some], number: int) -> list[Some]:
    """At most `number` of `some`, from the whole sequence."""
    return [some[place] for place in np.linspace(0, len(some), min(number, len(some)), endpoint=False).astype(int)]


def names_below(source: Path | None, images: Sequence[Path]) -> list[str]:
    """Each image's path below the folder `source`; the bare name of one from elsewhere."""
    return [
        path.relative_to(source).as_posix() if source is not None and path.is_relative_to(source) else path.name
        for path in images
    ]


def _below(folder: Path, *, warns: bool) -> list[Path]:
    suffixes = {*Pillow.registered_extensions(), *DATASET_SUFFIXES}
    files = sorted(_files_below(folder), key=lambda path: path.relative_to(folder).parts)
    others = [path for path in files if path.suffix.lower() not in suffixes]
    if others and warns:
        names = [path.relative_to(folder).as_posix() for path in others]
        _warn(f"{folder}: {count(len(others), 'file')} skipped, being no image", names)
    return [path for path in files if path.suffix.lower() in suffixes]


def _files_below(folder: Path) -> Iterator[Path]:
    """All files, also below links to folders, each folder once."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()  # of two links to one folder, the first by name
        yield from (path for name in files if (path := Path(place, name)).is_file())


def _refuse_folder(error: OSError) -> NoReturn:
    raise ImageError(
        f"{error.filename}: cannot be read as a folder: {error.strerror}",
        "Give a folder of pictures, or a list file, with --calibration.",
    ) from error


def _listed(path: Path) -> list[Path]:
    """The images that a list file names."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        if any("\0" in line for line in lines):
            raise ValueError
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ImageError(
            f"{path}: is neither a folder nor a list of images, one path a line", "Give one of them with --calibration."
        ) from error
    return [path.parent / line.strip() for line in lines if line.strip()]


def _warn(what: str, names: Sequence[str]) -> None:
    shown = [printable_name(name) for name in names[:_NAMED]]
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    text = f"{what}: {', '.join(shown)}{rest}"
    log.warning("%s", text, extra={"once": text})  # several stages look for the same images
