"""Manifests for the tests: read, changed, written back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


@contextmanager
def changed(folder: Path) -> Iterator[dict[str, Any]]:
    """The manifest in `folder` as plain values; changes to them are written back."""
    data = read(folder)
    yield data
    (folder / "manifest.json").write_text(json.dumps(data), encoding="utf-8")
