"""Write files under a temporary name and move them into place; digests and printable names of files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pspnet_convert.errors import DISK_FULL, WorkspaceError

TEMPORARY = ".making-"
_CHUNK = 1 << 20
_DEVICES = (Path("/dev"), Path("/dev/fd"))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError while `path` is written into a WorkspaceError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        full = error.errno in DISK_FULL
        advice = "Make room there, or choose another folder." if full else "Choose a folder that can be written."
        raise WorkspaceError(f"{path}: cannot be written: {reason}", advice) from error


@contextmanager
def temporary_folder(folder: Path, prefix: str = TEMPORARY) -> Iterator[Path]:
    """A new folder in `folder`, which is made if it is missing. Removed when the block ends, or else by the next run.

    Raises WorkspaceError if `folder` cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def write_atomically(*targets: Path, prefix: str = TEMPORARY) -> Iterator[list[Path]]:
    """Temporary paths, one for each target, that are moved to the targets if the block ends without an error.

    The temporary folder, whose name begins with `prefix`, is next to the first target, on the same file system. The
    moves are move_into_place's. Raises WorkspaceError where the disk refuses (unless it refuses a move, the targets are
    then as they were), and for a target that refuse_special refuses.
    """
    for target in targets:
        refuse_special(target)
    folder = targets[0].parent
    with temporary_folder(folder, prefix) as temporary, writing(folder):
        made = [temporary / str(number) / target.name for number, target in enumerate(targets)]
        for path in made:
            path.parent.mkdir()
        yield made
        move_into_place(made, targets)


def move_into_place(made: Sequence[Path], targets: Sequence[Path]) -> None:
    """Move files to their places on the same file system, each at once.

    Old targets, except the first, are removed before the first move: a killed process never leaves old and new files
    side by side. Raises OSError if the disk refuses.
    """
    for target in targets:
        refuse_special(target)
    for path, target in zip(made, targets):
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    for target in targets[:0:-1]:
        target.unlink(missing_ok=True)
    for path, target in zip(made, targets):
        path.replace(target)
    for changed in dict.fromkeys(target.parent for target in targets):
        flush_folder(changed)


def refuse_special(target: Path) -> None:
    """WorkspaceError for a device or a pipe, or a link to one in /dev: a file must not replace it."""
    is_special = target.exists() and not (target.is_file() or target.is_dir())
    if is_special or target.absolute().parent in _DEVICES:
        raise WorkspaceError(f"{target}: is not a regular file, and is not replaced", "Give the path of a file.")


def flush_folder(folder: Path) -> None:
    """Flush `folder`, so that a power cut does not undo the moves into it."""
    # Not every system can open a folder, and not every file system can flush one; the moves are done all the same.
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def write_json(path: Path, data: Any) -> None:
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    with write_atomically(path) as (temporary,):
        temporary.write_text(text, encoding="utf-8")


def printable_name(name: str) -> str:
    """A file's name as text that can be written: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(name).decode("utf-8", errors="replace")


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in lower-case hex; WorkspaceError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise WorkspaceError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def slug(backend: str) -> str:
    """A backend's name as part of a file's name: `IR FP32` becomes `ir-fp32`."""
    return re.sub(r"[^a-z0-9]+", "-", backend.lower()).strip("-")


class Digests:
    """SHA-256 by file. Each file is read once in a run, unless its size or its time of change differs."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, int, int], str] = {}

    def record(self, path: Path, name: str) -> dict[str, Any]:
        """What the manifest holds of the file at `path`, under `name`: its SHA-256 (hex), and its size (bytes)."""
        return {"file": printable_name(name), "sha256": self.of(path), "size": path.stat().st_size}

    def of(self, path: Path) -> str:
        """The file's SHA-256 in lower-case hex; WorkspaceError if it cannot be read."""
        key = self._key(path)
        if key not in self._known:
            self._known[key] = sha256_of(path)
        return self._known[key]

    def learn(self, path: Path, sha256: str) -> None:
        """Take over a digest that was computed while the file was written."""
        self._known[self._key(path)] = sha256

    @staticmethod
    def _key(path: Path) -> tuple[Path, int, int]:
        stat = path.stat()
        return path.absolute(), stat.st_size, stat.st_mtime_ns


def digest_of(data: Any) -> str:
    """The SHA-256 (hex) of plain values, the same for the same values."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
