"""The whole chain on what can go wrong before it starts: one line, its exit code, nothing half-made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import Run
from fault_server import FaultServer, Reply

from pspnet_convert.card import ModelCard


@pytest.fixture
def card(small: ModelCard, tmp_path: Path) -> Path:
    """The small model's card alone, in a folder without its checkpoint."""
    folder = tmp_path / "card"
    folder.mkdir()
    (folder / "model.yml").write_bytes((small.folder / "model.yml").read_bytes())
    return folder


@pytest.fixture
def server(small: ModelCard) -> Iterator[FaultServer]:
    with FaultServer((small.folder / small.checkpoint.name).read_bytes()).running() as running:
        yield running


def error_of(run: Run, folder: Path, code: int, *arguments: object) -> str:
    done = run("run", *arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    left = [path.name for path in (folder / "public").rglob("*") if path.is_file()]
    assert {name for name in left if not name.endswith(".part")} <= {".lock"}
    return lines[0]


def test_no_network(offline: Run, tmp_path: Path) -> None:
    error = error_of(offline, tmp_path, 4, "pspnet-pytorch")
    assert "download.openmmlab.com" in error
    assert "storage.openvinotoolkit.org" in error
    assert "--source" in error


def test_wrong_checksum(offline: Run, card: Path, small: ModelCard, server: FaultServer, tmp_path: Path) -> None:
    server.body = bytes(small.checkpoint.size)
    assert "sha256" in error_of(offline, tmp_path, 5, card, "--source", server.url("/"))


def test_truncated_file(offline: Run, card: Path, server: FaultServer, tmp_path: Path) -> None:
    server.body = server.body[:-1000]
    assert "instead of" in error_of(offline, tmp_path, 5, card, "--source", server.url("/"))


def test_html_page(offline: Run, card: Path, server: FaultServer, tmp_path: Path) -> None:
    server.play(b"<!DOCTYPE html><html>Sign in</html>", [Reply(headers={"Content-Type": "text/html"})] * 9)
    assert "HTML" in error_of(offline, tmp_path, 5, card, "--source", server.url("/"))


def test_misspelt_card(offline: Run, card: Path, tmp_path: Path) -> None:
    data = yaml.safe_load((card / "model.yml").read_text())
    data["clases"] = data.pop("classes")
    (card / "model.yml").write_text(yaml.safe_dump(data))
    assert "unknown key 'clases', did you mean 'classes'?" in error_of(offline, tmp_path, 3, card)
