"""The whole chain with wrong input: one line, its exit code, no unfinished file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import Cli, Result, Run
from fault_server import ENDLESS, FaultServer, Reply

from pspnet_convert.cards.card import ModelCard


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


def error_of(cli: Cli, folder: Path, code: int, *arguments: object) -> str:
    done = cli("run", *arguments, "-o", folder)
    assert done.exit_code == code, done.stderr
    assert_nothing_is_left(folder)
    return done.error


def assert_nothing_is_left(folder: Path) -> None:
    left = [path.name for path in (folder / "public").rglob("*") if path.is_file()]
    assert {name for name in left if not name.endswith(".part")} <= {".lock"}


def test_no_network(offline: Run, tmp_path: Path) -> None:
    done = offline("run", "pspnet-pytorch", cwd=tmp_path)
    error = Result(done.returncode, done.stdout, done.stderr).error
    assert done.returncode == 4
    assert_nothing_is_left(tmp_path)
    assert "download.openmmlab.com" in error
    assert "storage.openvinotoolkit.org" in error
    assert "--source" in error


def test_wrong_checksum(cli: Cli, card: Path, small: ModelCard, server: FaultServer, tmp_path: Path) -> None:
    server.body = bytes(small.checkpoint.size)
    assert "sha256" in error_of(cli, tmp_path, 5, card, "--source", server.url("/"))


def test_truncated_file(cli: Cli, card: Path, server: FaultServer, tmp_path: Path) -> None:
    server.body = server.body[:-1000]
    assert "instead of" in error_of(cli, tmp_path, 5, card, "--source", server.url("/"))


def test_html_page(cli: Cli, card: Path, server: FaultServer, tmp_path: Path) -> None:
    server.play(b"<!DOCTYPE html><html>Sign in</html>", [Reply(headers={"Content-Type": "text/html"})] * 9)
    assert "HTML" in error_of(cli, tmp_path, 5, card, "--source", server.url("/"))


def test_misspelt_card(cli: Cli, card: Path, tmp_path: Path) -> None:
    data = yaml.safe_load((card / "model.yml").read_text())
    data["clases"] = data.pop("classes")
    (card / "model.yml").write_text(yaml.safe_dump(data))
    assert "unknown key 'clases', did you mean 'classes'?" in error_of(cli, tmp_path, 3, card)


def test_file_that_is_not_there(cli: Cli, card: Path, server: FaultServer, tmp_path: Path) -> None:
    server.play(server.body, [Reply(404)])
    assert f"{server.url('/')}: HTTP 404 Not Found" in error_of(cli, tmp_path, 4, card, "--source", server.url("/"))


def test_a_forced_download_that_fails_leaves_the_file(
    cli: Cli, small: ModelCard, card: Path, workspace: Path, server: FaultServer
) -> None:
    server.play(server.body, [Reply(404)])
    command = ["download", card, "-o", workspace, "--force", "--source", server.url("/")]
    assert cli(*command).exit_code == 4
    checkpoint = workspace / "public" / small.name / small.checkpoint.name
    assert checkpoint.read_bytes() == server.body
    assert cli(*command).exit_code == 0
    assert [seen.sent for seen in server.seen] == [0, len(server.body)]


def test_redirects_without_end(cli: Cli, card: Path, server: FaultServer, tmp_path: Path) -> None:
    server.play(server.body, [Reply(302, {"Location": "/standin.pth"})] * 20)
    assert "more than 10 redirects" in error_of(cli, tmp_path, 4, card, "--source", server.url("/"))


def test_body_without_end(cli: Cli, card: Path, server: FaultServer, tmp_path: Path) -> None:
    server.play(b"", [Reply(endless=True)])
    assert "serves other bytes" in error_of(cli, tmp_path, 5, card, "--source", server.url("/"))
    assert server.sent < ENDLESS / 2


def test_temporary_errors_cost_time_and_no_byte_is_sent_twice(
    cli: Cli, card: Path, small: ModelCard, server: FaultServer, tmp_path: Path
) -> None:
    troubles = [Reply(500), Reply(429, {"Retry-After": "1"}), Reply(cut=100_000)]
    server.play(server.body, troubles)
    done = cli("download", card, "--source", server.url("/"), "-o", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("; trying again in ") == len(troubles)
    assert (tmp_path / "public" / small.name / small.checkpoint.name).read_bytes() == server.body
    assert server.ranges == [None, None, None, "bytes=100000-"]
    assert server.sent == len(server.body)
