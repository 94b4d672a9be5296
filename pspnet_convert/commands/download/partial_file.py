"""A partly downloaded file: its bytes on the disk, their running digests, and checks of what a source sends."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from pspnet_convert.cards.card import CheckpointFile
from pspnet_convert.files import flush_folder, writing
from pspnet_convert.progress import Progress

CHUNK = 128 * 1024
LARGEST = 4 << 30  # bytes, if the card gives no size; the largest published checkpoint has less than half a GiB


class SourceError(Exception):
    """A source did not give the file. `wrong`: it gave something else instead."""

    def __init__(self, reason: str, wrong: bool = False) -> None:
        super().__init__(reason)
        self.wrong = wrong


class TryAgain(SourceError):
    """A fault that may pass. `wait_s`: the seconds that the server asked to wait, if it did."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class PartialFile:
    """The bytes received so far: a file next to the target, and the running digests of its content."""

    def __init__(self, path: Path, wanted: CheckpointFile, progress: Progress) -> None:
        self._path = path
        self.wanted = wanted
        self.total = wanted.size
        self._progress = progress
        self.furthest = 0  # the greatest size so far, whatever was removed since
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a full disk must fail at the write, not when the file is closed.
            self._file = path.open("a+b", buffering=0)
            self._clear()
            self._count_existing()
        progress.start(self.total, wanted.name, self.size)

    def _clear(self) -> None:
        self.size = 0
        self.pieces = 0  # the answers that the bytes came from
        self._digests = {"sha256": hashlib.sha256()}
        if self.wanted.sha384:
            self._digests["sha384"] = hashlib.sha384()

    def _count_existing(self) -> None:
        """Count the bytes that an earlier run left; remove them if they cannot be the file."""
        self._file.seek(0)
        while chunk := self._file.read(CHUNK):
            self._count(chunk)
            if self.size > self._limit:
                break
        self.pieces = 1 if self.size else 0
        if self.size >= self._limit and not self.is_right():
            self._file.truncate(0)
            self._clear()

    def _count(self, chunk: bytes) -> None:
        for digest in self._digests.values():
            digest.update(chunk)
        self.size += len(chunk)

    @property
    def _limit(self) -> int:
        return LARGEST if self.wanted.size is None else self.wanted.size

    @property
    def sha256(self) -> str:
        return self._digests["sha256"].hexdigest()

    @property
    def missing(self) -> int:
        """The bytes still to come; the most that may come if the size is unknown."""
        return (self._limit if self.total is None else self.total) - self.size

    def expect(self, served: int | None) -> None:
        """Take the whole file's size as a source states it (None: not stated); SourceError if it cannot be right."""
        if self.wanted.size is not None:
            if served not in (None, self.wanted.size):
                raise SourceError(f"serves {served} bytes instead of {self.wanted.size}", wrong=True)
            return
        if served is not None and served > LARGEST:
            raise SourceError(f"serves {served} bytes, more than any checkpoint has", wrong=True)
        self.total = served
        if served is not None and served < self.size:
            self.restart()
        self._progress.start(served, self.wanted.name, self.size)

    def append(self, chunk: bytes) -> None:
        with writing(self._path):
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]
        self._count(chunk)
        self.furthest = max(self.furthest, self.size)
        self._progress.advance(len(chunk))

    def restart(self) -> None:
        with writing(self._path):
            self._file.truncate(0)
        self._clear()
        self._progress.start(self.total, self.wanted.name, 0)

    def is_right(self) -> bool:
        return self.wanted.size in (None, self.size) and self.difference() is None

    def difference(self) -> str | None:
        """The first digest that is not the card's, in words; None if all are."""
        if not self.size:
            return "serves nothing"
        for name, wanted in (("sha256", self.wanted.digest), ("sha384", self.wanted.sha384)):
            if wanted and not (found := self._digests[name].hexdigest()).startswith(wanted):
                return f"serves other bytes ({name} {found[:12]}... instead of {wanted[:12]}...)"
        return None

    def move_to(self, target: Path) -> None:
        with writing(target):
            os.fsync(self._file.fileno())
            # Windows cannot rename an open file.
            self._file.close()
            self._path.replace(target)
            flush_folder(target.parent)

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Keep the bytes, from which a later run goes on; remove the file if it is empty."""
        self._progress.done()
        self._file.close()
        if not self.size:
            with writing(self._path):
                self._path.unlink(missing_ok=True)


def fill(part: PartialFile, read: Callable[[int], bytes]) -> None:
    """Read until `part` has the file's size, and no byte more, since a body may be endless."""
    part.pieces += 1
    while part.missing and (chunk := read(min(CHUNK, part.missing))):
        part.append(chunk)
    if part.missing and part.total is not None:
        raise TryAgain(f"ended after {part.size} of {part.total} bytes")
    if not part.missing and part.total is None:
        raise SourceError(f"serves {part.size} bytes and more, more than any checkpoint has", wrong=True)
