"""Find a data set's files: by name and suffix, below a folder, and the lines of a list."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pspnet_convert.errors import DatasetError
from pspnet_convert.runtimes.images import DATASET_SUFFIXES


class FileFinder:
    """Finds files by name and suffix. A folder is read once, and only if a file has not the suffix as it is given."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[str]]] = {}

    def find(self, folder: Path, name: str, suffix: str) -> Path | None:
        """`folder/name` + `suffix`; else that file with the extension in capitals; else with an image's extension."""
        exact = folder / f"{name}{suffix}"
        if is_file(exact):
            return exact
        stem, extension = _split(exact.name)
        if not extension:
            return None
        found = self._files(exact.parent).get(stem, [])
        order = [extension.lower(), *DATASET_SUFFIXES]
        return exact.with_name(min(found, key=lambda name: order.index(_split(name)[1].lower()))) if found else None

    def _files(self, folder: Path) -> dict[str, list[str]]:
        """The names of the images in `folder`, by their stem."""
        if folder not in self._folders:
            by_stem: dict[str, list[str]] = {}
            for name in _names(folder):
                stem, extension = _split(name)
                if extension and is_file(folder / name):
                    by_stem.setdefault(stem, []).append(name)
            self._folders[folder] = by_stem
        return self._folders[folder]


def is_file(path: Path) -> bool:
    """Whether there is such a file; a line of a list may be longer than any path."""
    try:
        return path.is_file()
    except OSError:
        return False


def images_below(folder: Path) -> list[str]:
    """The images in `folder` and its subfolders, as paths below it; DatasetError if a folder cannot be read.

    Hidden files are left out, since macOS keeps `._a.png` next to `a.png`.
    """
    return list(_images_below(folder, "", ()))


def _images_below(folder: Path, prefix: str, above: Sequence[Path]) -> Iterator[str]:
    real = folder.resolve()
    if real in above:  # a link to a folder that it is in
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _images_below(folder / entry.name, f"{prefix}{entry.name}/", (*above, real))
        elif _split(entry.name)[1] and entry.is_file():
            yield f"{prefix}{entry.name}"


def strip_suffix(path: str, suffix: str) -> str | None:
    """`path` without `suffix`, which may be in capitals there; None if it has another."""
    bare = path[: -len(suffix)]
    is_other = path[len(bare) :].lower() != suffix.lower()
    return None if is_other or not bare or bare.endswith("/") else bare


def strip_extension(path: str, suffix: str = "") -> str | None:
    """`path` without its image extension, and without what `suffix` has before its own; None if it has another."""
    stem, extension = _split(path)
    before = _split(suffix)[0]
    if not extension or not stem.endswith(before):
        return None
    return stem.removesuffix(before)


def _split(name: str) -> tuple[str, str]:
    """A name in two: before an image's extension, and that; the second is empty if it has none."""
    stem, dot, extension = name.rpartition(".")
    return (stem, f".{extension}") if dot and f".{extension}".lower() in DATASET_SUFFIXES else (name, "")


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - without a Path for each of many thousand names
    except OSError:
        return []


def read_list(path: Path) -> list[str]:
    """The lines of a list of images that are not blank; DatasetError if it is not such a list."""
    advice = "Give a list with --list-file: a name a line, or an image and its annotation a line."
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise DatasetError(f"{path}: the list of images cannot be read: {reason}", advice) from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DatasetError(f"{path}: lists no image", advice)
    return names
