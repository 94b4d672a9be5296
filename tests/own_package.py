"""A package of the user's own classes, which a config imports."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def importable(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write the module `path` with this text. It can be imported in the block, and is forgotten after it."""
    path.parent.mkdir()
    path.write_text(text)
    monkeypatch.syspath_prepend(str(path.parent))
    yield path
    sys.modules.pop(path.stem, None)


def importing(config: Path, module: str) -> Path:
    """The config, which now imports `module`."""
    imports = f"custom_imports = dict(imports=['{module}'], allow_failed_imports=False)\n"
    config.write_text(imports + config.read_text())
    return config
