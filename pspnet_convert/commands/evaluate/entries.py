"""Images of a data set by walking its folders or by a list, each with its annotation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pspnet_convert.commands.evaluate.data_files import (
    FileFinder,
    images_below,
    is_file,
    strip_extension,
    strip_suffix,
)
from pspnet_convert.commands.evaluate.place import Place
from pspnet_convert.errors import DatasetError


@dataclass(frozen=True)
class Entry:
    """One image of a data set, and the paths that its two files should have."""

    name: str
    image: Path
    annotation: Path


@dataclass(frozen=True)
class Found:
    """An image. `annotation` is None where it is found in the folder `annotations`, by the name and a suffix."""

    name: str
    image: Path
    annotations: Path
    annotation: Path | None = None


def walked_images(place: Place) -> list[Found]:
    """All images below the place's folders, in the order of their paths; DatasetError if there are none."""
    found = []
    for images, labels in place.folders:
        if not images.is_dir():
            raise DatasetError(f"{images}: there is no such folder")
        found += [Found(name, images / path, labels) for name, path in _walked(place, images)]
    if not found:
        kinds = f" ending in {place.image_suffix}" if place.only_suffix else ""
        raise DatasetError(f"{place.folders[0][0]}: has no image{kinds}", "Is it the right folder?")
    return sorted(found, key=lambda one: str(one.image))


def _walked(place: Place, folder: Path) -> Iterator[tuple[str, str]]:
    """Name and path of each image below `folder`."""
    paths = images_below(folder)
    named = [(strip_suffix(path, place.image_suffix), path) for path in paths]
    has_suffix = any(name for name, _ in named)
    for name, path in named:
        if name is None and not (place.only_suffix and has_suffix):
            # Images of the card may be there in another format.
            name = strip_extension(path, place.image_suffix if place.only_suffix else "")
        if name:
            yield name, path


def listed_images(place: Place, lines: Sequence[str], near: Path) -> list[Found]:
    """The images of the lines of a list, in its order; `near` is the list's folder.

    A line is a name without suffixes (as mmsegmentation reads it), an image's path, or an image's path and its
    annotation's. A line that names no file is taken for a name.
    """
    finder = FileFinder()
    found = [_listed(place, line, near, finder) for line in lines]
    # A list from Windows: only where the line as it is names no file.
    return [
        _listed(place, line.replace("\\", "/"), near, finder) if "\\" in line and not is_file(one.image) else one
        for line, one in zip(lines, found)
    ]


def _listed(place: Place, line: str, near: Path, finder: FileFinder) -> Found:
    for images, labels in place.folders:
        image = finder.find(images, line, place.image_suffix) or finder.find(images, line, ".jpg")
        if image is not None:
            return Found(line, image, labels)
    images, labels = place.folders[0]
    image = _locate(line, images, place, near)
    if image is not None:
        return _at_path(image, line, place)
    for one, two in _pairs(line):
        image, annotation = _locate(one, images, place, near), _locate(two, labels, place, near)
        if image is not None and annotation is not None:
            return _at_path(image, one, place, annotation)
    for one, two in _pairs(line):
        if strip_extension(one) and strip_extension(two) and ("\t" in line or len(line.split()) == 2):
            expected = _locate(one, images, place, near) or images / one
            return _at_path(expected, one, place, _locate(two, labels, place, near) or labels / two)
    has_suffix = strip_extension(line) is not None
    return Found(line, images / (line if has_suffix else f"{line}{place.image_suffix}"), labels)


def _at_path(image: Path, listed: str, place: Place, annotation: Path | None = None) -> Found:
    """The image at a listed path; its name is that below its folder, if it is in one of the place's."""
    for images, labels in place.folders:
        if image.is_relative_to(images):
            return Found(_name(image.relative_to(images).as_posix(), place), image, labels, annotation)
    return Found(_name(listed, place), image, place.folders[0][1], annotation)


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """The line cut in two at each tab or run of blanks; a name may have blanks in it."""
    for gap in re.finditer(r"\s+", line):
        yield line[: gap.start()], line[gap.end() :]


def _locate(path: str, folder: Path, place: Place, near: Path) -> Path | None:
    """The file at a listed path: below its folder, the root, or the list; a leading slash may mean the root."""
    if strip_extension(path) is None:
        return None
    bases = (folder, place.root, near)
    candidates = [base / path for base in bases] + [base / path.lstrip("/") for base in bases]
    return next((candidate for candidate in candidates if is_file(candidate)), None)


def _name(path: str, place: Place) -> str:
    return strip_suffix(path, place.image_suffix) or strip_extension(path) or path


def paired(place: Place, found: Sequence[Found]) -> tuple[list[Entry], list[Entry]]:
    """All entries, and those of them that have an image but no annotation.

    All annotations have one suffix, the first of the place's that any has: a number then means one thing in all.
    """
    finder = FileFinder()
    paths: list[Path | None] = []
    for suffix in place.annotation_suffixes:
        paths = [one.annotation or _annotation(finder, one, suffix) for one in found]
        if any(path is not None and one.annotation is None for one, path in zip(found, paths)):
            break
    first = place.annotation_suffixes[0]
    expected = [path or one.annotations / f"{one.name}{first}" for one, path in zip(found, paths)]
    entries = [Entry(one.name, one.image, path) for one, path in zip(found, expected)]
    without = [entry for entry, path in zip(entries, paths) if path is None or not is_file(path)]
    return entries, [entry for entry in without if is_file(entry.image)]


def _annotation(finder: FileFinder, one: Found, suffix: str) -> Path | None:
    path = finder.find(one.annotations, one.name, suffix)
    return None if path == one.image else path
