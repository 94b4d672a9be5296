"""What was made, from what, with what: `manifest.json`, one record a stage.

It is a run's result and the next run's memory: a stage whose record still holds is not done again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pspnet_convert import __version__
from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ArtifactError
from pspnet_convert.files import printable_name, sha256_of, write_json
from pspnet_convert.manifest_document import check_manifest

MANIFEST_VERSION = 3
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileRecord:
    """A file's SHA-256 (hex) and size (bytes). `file` is relative to the manifest, or a bare name."""

    file: str
    sha256: str
    size: int


@dataclass(frozen=True)
class StageRecord:
    """What a stage was given, what it gave, its result in plain values, and how long it took (seconds)."""

    inputs: Mapping[str, Any]
    options: Mapping[str, Any]
    tools: Mapping[str, str]
    outputs: list[FileRecord] = field(default_factory=list)
    result: Mapping[str, Any] = field(default_factory=dict)
    finished: str = ""
    seconds: float = 0.0

    def same_work(self, other: StageRecord) -> bool:
        return (self.inputs, self.options, self.tools) == (other.inputs, other.options, other.tools)


class Digests:
    """SHA-256 by file, each file read once in a run unless its size or time of change moved."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, int, int], str] = {}

    def record(self, path: Path, name: str) -> FileRecord:
        return FileRecord(printable_name(name), self.of(path), path.stat().st_size)

    def of(self, path: Path) -> str:
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


class Manifest:
    """`manifest.json` at `path`, of the model of `card`; written anew after each stage."""

    def __init__(self, path: Path, card: ModelCard) -> None:
        self._path = path
        self.card = card
        self._stages = _read_stages(path)

    def stage(self, name: str) -> StageRecord | None:
        return self._stages.get(name)

    def find_reusable(self, name: str, work: StageRecord, digests: Digests) -> StageRecord | None:
        """The stage's record if it did this very work and its outputs are there as it left them."""
        record = self._stages.get(name)
        if record is None or not record.same_work(work):
            return None
        for output in record.outputs:
            path = self._path.parent / output.file
            if not path.is_file() or digests.record(path, output.file) != output:
                log.info("%s: %s is missing or has changed: made again", name, output.file)
                return None
        return record

    def write(self, name: str, record: StageRecord) -> None:
        self._stages[name] = record
        write_json(self._path, self.as_dict())

    def drop_stages_using(self, files: Sequence[FileRecord]) -> None:
        """Before `files` take their places: drop each stage that made, or was given, others under their names."""
        digests = {record.file: record.sha256 for record in files}
        kept = {
            name: stage
            for name, stage in self._stages.items()
            if all(digests.get(file, sha256) == sha256 for file, sha256 in _mentioned(asdict(stage)))
        }
        if kept != self._stages:
            self._stages = kept
            write_json(self._path, self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "manifest_version": MANIFEST_VERSION,
            "tool": {"name": "pspnet-convert", "version": __version__},
            "model": self.card.model_dump(mode="json", exclude_none=True),
            "stages": {name: asdict(record) for name, record in self._stages.items()},
        }


def versions(*packages: str) -> dict[str, str]:
    """The installed versions of this tool and `packages`; one that is not installed is left out."""
    found = {"pspnet-convert": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _mentioned(data: Any) -> Iterator[tuple[str, str]]:
    """File and SHA-256 of each FileRecord in plain values."""
    if isinstance(data, Mapping):
        file, sha256 = data.get("file"), data.get("sha256")
        if isinstance(file, str) and isinstance(sha256, str):
            yield file, sha256
        data = list(data.values())
    if isinstance(data, list):
        for value in data:
            yield from _mentioned(value)


def digest_of(data: Any) -> str:
    """The SHA-256 (hex) of plain values, the same for the same values."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _read_stages(path: Path) -> dict[str, StageRecord]:
    """The stages of an earlier run; none where there was none, or its manifest is not ours to read."""
    if not path.is_file():
        return {}
    try:
        content = path.read_bytes()
        data = json.loads(content)
        if data["manifest_version"] != MANIFEST_VERSION:
            return {}
        check_manifest(content, path)
        return {name: _record(stage) for name, stage in data["stages"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: cannot be read (%s): all stages run again", path, error)
        return {}
    except ArtifactError as error:
        log.warning("%s: all stages run again", error.what)
        return {}


def _record(data: dict[str, Any]) -> StageRecord:
    return StageRecord(**{**data, "outputs": [FileRecord(**output) for output in data["outputs"]]})
