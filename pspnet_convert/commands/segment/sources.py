"""Find the images and videos that the arguments of `segment` name: files, folders, patterns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path

from pspnet_convert.errors import ImageError
from pspnet_convert.runtimes.images import DATASET_SUFFIXES, free_name

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")


@dataclass(frozen=True)
class Source:
    """An image or a video. `name`: that of its results, relative to their folder, with slashes and without a suffix."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(arguments: Sequence[Path], workspace: Path) -> list[Source]:
    """The images and videos, in the arguments' order; those of a folder or a pattern in the order of their names.

    A folder stands for all that it holds, in folders too, without hidden files and without what the model's own
    folder, `workspace`, holds. A result has the name of its file; below a folder, its path from there; by a pattern,
    its path from the last folder before the first wildcard. Of equal names, the second gets `-2`.

    ImageError for a folder or a pattern that gives none. Whether a single file is there, its reader says.
    """
    taken: set[str] = set()
    found = []
    for argument in arguments:
        for path, relative in _named_by(argument, workspace):
            found.append(Source(path, free_name(relative.with_suffix("").as_posix(), taken)))
    return found


def _named_by(argument: Path, workspace: Path) -> Iterator[tuple[Path, Path]]:
    """Each file with its path for the results."""
    if argument.is_dir():
        files = [path for path in _visible(argument.rglob("*"), argument) if _is_wanted(path, argument, workspace)]
        root, what = argument, "holds no image and no video"
    elif has_magic(str(argument)) and not argument.exists():
        root, what = _before_wildcard(argument), "no file has such a name"
        files = _visible(root.glob(str(argument.relative_to(root))), root)
    else:
        files, root, what = [argument], argument.parent, ""
    if not files:
        raise ImageError(f"{argument}: {what}", "Give images, videos, or a folder that holds some.")
    yield from ((path, path.relative_to(root)) for path in files)


def _visible(paths: Iterable[Path], folder: Path) -> list[Path]:
    """The files among `paths`, sorted, without hidden ones and those in hidden folders below `folder`."""
    shown = (path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(path for path in shown if path.is_file())


def _is_wanted(path: Path, folder: Path, workspace: Path) -> bool:
    own, inside = workspace.resolve(), path.resolve().parents
    is_result = own in inside and own not in (folder.resolve(), *folder.resolve().parents)
    return path.suffix.lower() in (*DATASET_SUFFIXES, *VIDEO_SUFFIXES) and not is_result


def _before_wildcard(pattern: Path) -> Path:
    parts = pattern.parts
    first = next(place for place, part in enumerate(parts) if has_magic(part))
    return Path(*parts[:first])
