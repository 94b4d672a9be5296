"""Where each artifact of a model is, and the lock that lets one process at a time write there.

The folders are Open Model Zoo's (`<output_dir>/public/<name>/`), so that its users find their files.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pspnet_convert.files import TEMPORARY, writing

PRECISIONS = ("FP32", "FP16")  # of the conversion
INT8 = "INT8"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workspace:
    """The artifacts of the model `name` below `root`."""

    root: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.root / "public" / self.name

    def checkpoint(self, file_name: str) -> Path:
        return self.folder / file_name

    @property
    def onnx(self) -> Path:
        return self.folder / f"{self.name}.onnx"

    def ir(self, precision: str) -> Path:
        """The IR's .xml; its weights are next to it as .bin."""
        return self.folder / precision / f"{self.name}.xml"

    @property
    def int8_tries(self) -> Path:
        """The folder of the INT8 IRs that `quantize --max-drop` has tried."""
        return self.folder / "INT8-tries"

    @property
    def irs(self) -> dict[str, Path]:
        """The .xml of each IR that is there, by precision."""
        paths = {precision: self.ir(precision) for precision in (*PRECISIONS, INT8)}
        return {precision: path for precision, path in paths.items() if path.is_file()}

    @property
    def verification(self) -> Path:
        """The folder of what each model saw when it was verified."""
        return self.folder / "verification"

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the model's folder for this process, made if need be and cleared of what a killed run left."""
        with folder_lock(self.folder):
            _sweep(self.folder)
            yield


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold `folder`, made if need be, for this process; WorkspaceError where it cannot be written."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Opened here, since a lock waits for ever where it may not write.
        (folder / ".lock").touch()
    from filelock import FileLock, Timeout

    lock = FileLock(str(folder / ".lock"))
    with writing(folder):  # touch() also succeeds on a read-only file of this user
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("waiting for another pspnet-convert that works in %s", folder)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def ir_files(path: Path) -> list[Path]:
    """Both files of an IR; `path` is the .xml."""
    return [path.with_suffix(".bin"), path]


def _sweep(folder: Path) -> None:
    """Remove the temporary files of killed runs. What their child processes still write is left to the next run."""
    for left in list(folder.rglob(f"{TEMPORARY}*")):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
