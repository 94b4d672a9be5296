"""A disturbed run must leave the files and the manifest of an undisturbed run.

The tests decide how a run is disturbed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def assert_undisturbed(folder: Path, wanted: Path) -> None:
    """The model's `folder` has the files of `wanted`, byte for byte, and no others; the manifest except for times."""
    assert digests(folder) == digests(wanted)
    assert manifest(folder) == manifest(wanted)


def assert_manifest_is_true(folder: Path) -> None:
    """Each file that is in the manifest, and is there, has the recorded digest."""
    path = folder / "manifest.json"
    records = list(file_records(json.loads(path.read_text(encoding="utf-8")))) if path.exists() else []
    untrue = [file for file, sha256 in records if (folder / file).exists() and digest(folder / file) != sha256]
    assert untrue == []


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 by name, of all files except the lock and those that contain times: the manifest, and its page."""
    timed = (".lock", "manifest.json", "report.html")
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in timed]
    return {path.relative_to(folder).as_posix(): digest(path) for path in sorted(paths)}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest without times and without the checkpoint's source: a later run goes on from another source."""
    data: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for stage in data["stages"].values():
        del stage["finished"], stage["seconds"]
    data["stages"]["download"]["result"].pop("source")
    return data


def file_records(data: Any) -> Iterator[tuple[str, str]]:
    if isinstance(data, dict):
        if {"file", "sha256"} <= set(data):
            yield data["file"], data["sha256"]
        data = list(data.values())
    if isinstance(data, list):
        for value in data:
            yield from file_records(value)
