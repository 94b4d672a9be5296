"""A checkpoint with eight known digits of its digest: its first download pins it, then no other is accepted."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import manifests
import pytest
from conftest import Cli, write_small_card
from fault_server import FaultServer, Reply

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.lock_file import LOCK_FILE, pinned, write_pin
from pspnet_convert.errors import CardError
from pspnet_convert.manifest_document import read_manifest

BODY = random.Random(1).randbytes(3_000_000)
OTHER = random.Random(2).randbytes(3_000_000)


@pytest.fixture(autouse=True, scope="module")
def no_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(BODY).running() as running:
        yield running


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def unpinned(folder: Path, body: bytes, source: str, **changes: Any) -> Path:
    """A card with eight digits of its checkpoint's digest, as mmsegmentation's file names have them."""
    file = {"name": "model.pth", "digest_prefix": digest_of(body)[:8], "sources": [source]}
    return write_small_card(folder, files=[file], **changes)


@pytest.fixture
def card(tmp_path: Path, server: FaultServer) -> Path:
    return unpinned(tmp_path / "card", BODY, server.url())


def lock_of(out: Path) -> Any:
    return json.loads((out / LOCK_FILE).read_text())


def pin_of(body: bytes) -> dict[str, Any]:
    return {"file": "model.pth", "sha256": digest_of(body), "size": len(body)}


# The first download


def test_the_first_download_pins(cli: Cli, card: Path, out: Path) -> None:
    done = cli("download", card, "-o", out)
    assert done.exit_code == 0, done.stderr
    assert f"small: pinned to sha256 {digest_of(BODY)}" in done.stderr
    assert lock_of(out) == {"lock_version": 1, "checkpoints": {"small": pin_of(BODY)}}
    manifest = read_manifest(out / "public" / "small" / "manifest.json")
    assert (manifest.model.checkpoint.sha256, manifest.model.checkpoint.size) == (digest_of(BODY), len(BODY))
    assert {path.name for path in out.iterdir()} == {"public", LOCK_FILE}


def test_a_second_run_downloads_nothing_and_changes_nothing(
    cli: Cli, card: Path, server: FaultServer, out: Path
) -> None:
    cli("download", card, "-o", out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    server.play(BODY)
    assert "download: unchanged" in cli("download", card, "-o", out).stderr
    assert not server.seen
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_the_lock_file_is_the_same_for_any_order_of_downloads(cli: Cli, tmp_path: Path, server: FaultServer) -> None:
    cards = [unpinned(tmp_path / name, BODY, server.url(), name=name) for name in ("beta", "alpha")]
    for number, order in enumerate((cards, cards[::-1])):
        for one in order:
            assert cli("download", one, "-o", tmp_path / f"out{number}").exit_code == 0
    text = (tmp_path / "out0" / LOCK_FILE).read_text()
    assert text == (tmp_path / "out1" / LOCK_FILE).read_text()
    assert text.index("alpha") < text.index("beta")


def test_a_file_of_another_digest_is_refused_and_the_next_source_asked(
    cli: Cli, card: Path, server: FaultServer, out: Path
) -> None:
    server.play(BODY, [Reply(body=OTHER)])
    done = cli("download", card, "-o", out, "--source", server.url("/other.pth"))
    assert done.exit_code == 0, done.stderr
    assert f"instead of {digest_of(BODY)[:8]}..." in done.stderr
    assert lock_of(out)["checkpoints"] == {"small": pin_of(BODY)}


def test_a_file_of_another_digest_alone_is_refused(cli: Cli, card: Path, server: FaultServer, out: Path) -> None:
    server.play(OTHER)
    done = cli("download", card, "-o", out)
    assert done.exit_code == 5
    assert "serves other bytes" in done.error
    assert not (out / LOCK_FILE).exists()
    assert not (out / "public" / "small" / "model.pth").exists()


def test_an_empty_file_is_no_checkpoint(cli: Cli, tmp_path: Path, server: FaultServer, out: Path) -> None:
    card = unpinned(tmp_path / "card", b"", server.url())
    server.play(b"")
    done = cli("download", card, "-o", out)
    assert done.exit_code == 5
    assert "serves nothing" in done.error


def test_a_page_in_place_of_the_file_is_refused(cli: Cli, card: Path, server: FaultServer, out: Path) -> None:
    server.play(b"<html>", [Reply(headers={"Content-Type": "text/html"})])
    done = cli("download", card, "-o", out)
    assert done.exit_code == 5
    assert "HTML page" in done.error


# A size that nobody knows


@pytest.mark.parametrize("reply", [Reply(cut=1_000_000), Reply(cut=1_000_000, headers={"ETag": '"1"'})])
def test_a_broken_download_goes_on_where_it_broke_off(
    cli: Cli, card: Path, server: FaultServer, out: Path, reply: Reply
) -> None:
    server.play(BODY, [reply])
    done = cli("download", card, "-o", out)
    assert done.exit_code == 0, done.stderr
    assert server.ranges == [None, "bytes=1000000-"]
    assert lock_of(out)["checkpoints"] == {"small": pin_of(BODY)}


def test_a_file_that_changes_between_two_tries_is_fetched_from_the_start(
    cli: Cli, card: Path, server: FaultServer, out: Path
) -> None:
    server.play(BODY, [Reply(body=OTHER, cut=1_000_000)])
    done = cli("download", card, "-o", out)
    assert done.exit_code == 0, done.stderr
    assert "starting over" in done.stderr
    assert server.ranges == [None, "bytes=1000000-", None]


@pytest.mark.parametrize("left", [len(BODY), len(BODY) + 5], ids=["all of it", "more than all"])
def test_the_leftover_of_an_earlier_run_is_checked(
    cli: Cli, card: Path, server: FaultServer, out: Path, left: int
) -> None:
    folder = out / "public" / "small"
    folder.mkdir(parents=True)
    (folder / "model.pth.part").write_bytes((BODY + bytes(5))[:left])
    assert cli("download", card, "-o", out).exit_code == 0
    assert lock_of(out)["checkpoints"] == {"small": pin_of(BODY)}
    assert len(server.seen) == (0 if left == len(BODY) else 2)
    (folder / "model.pth").unlink()


def test_a_leftover_larger_than_the_local_source_is_dropped(cli: Cli, card: Path, tmp_path: Path, out: Path) -> None:
    folder = out / "public" / "small"
    folder.mkdir(parents=True)
    (folder / "model.pth.part").write_bytes(BODY + bytes(5))
    (tmp_path / "mirror.pth").write_bytes(BODY)
    done = cli("download", card, "-o", out, "--source", tmp_path / "mirror.pth")
    assert done.exit_code == 0, done.stderr
    assert (folder / "model.pth").read_bytes() == BODY


def events(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines() if '"event": "download"' in line]


def test_the_total_is_the_length_that_the_server_states(cli: Cli, card: Path, out: Path) -> None:
    done = cli("download", card, "-o", out, "--progress", "json")
    assert [event["total"] for event in events(done.stdout)][:2] == [None, len(BODY)]
    assert events(done.stdout)[-1] == {
        "event": "download", "file": "model.pth", "bytes": len(BODY), "total": len(BODY),
    }  # fmt: skip


def test_without_a_stated_length_the_total_stays_unknown(cli: Cli, card: Path, server: FaultServer, out: Path) -> None:
    server.play(BODY, [Reply(no_length=True)])
    done = cli("download", card, "-o", out, "--progress", "json")
    assert done.exit_code == 0, done.stderr
    assert {event["total"] for event in events(done.stdout)} == {None}
    assert events(done.stdout)[-1]["bytes"] == len(BODY)


def test_a_claim_of_more_than_any_checkpoint_has_is_refused(
    cli: Cli, card: Path, server: FaultServer, out: Path
) -> None:
    server.play(BODY, [Reply(claim=5 << 30)])
    done = cli("download", card, "-o", out)
    assert done.exit_code == 5
    assert "more than any checkpoint has" in done.error


def test_an_endless_body_is_cut_off(
    cli: Cli, card: Path, server: FaultServer, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pspnet_convert.commands.download.partial_file.LARGEST", 4 << 20
    )  # the real limit would take minutes
    server.play(BODY, [Reply(endless=True)])
    done = cli("download", card, "-o", out)
    assert done.exit_code == 5
    assert "4194304 bytes and more" in done.error
    assert not (out / "public" / "small" / "model.pth").exists()


# After the first download


def test_another_file_of_the_same_eight_digits_is_refused(cli: Cli, card: Path, server: FaultServer, out: Path) -> None:
    """No such pair of files is known, so the lock file names another digest with the same eight digits."""
    out.mkdir()
    pin = {**pin_of(BODY), "sha256": digest_of(BODY)[:8] + "0" * 56}
    (out / LOCK_FILE).write_text(json.dumps({"lock_version": 1, "checkpoints": {"small": pin}}))
    done = cli("download", card, "-o", out)
    assert done.exit_code == 5
    assert f"instead of {pin['sha256'][:12]}" in done.error
    assert lock_of(out)["checkpoints"]["small"] == pin


def test_a_file_of_another_size_is_refused(cli: Cli, card: Path, server: FaultServer, out: Path) -> None:
    cli("download", card, "-o", out)
    server.play(BODY + b"x")
    done = cli("download", card, "-o", out, "--force")
    assert done.exit_code == 5
    assert f"serves {len(BODY) + 1} bytes instead of {len(BODY)}" in done.error


def test_a_pinned_file_that_was_changed_is_not_exported(cli: Cli, card: Path, out: Path) -> None:
    cli("download", card, "-o", out)
    (out / "public" / "small" / "model.pth").write_bytes(OTHER)
    done = cli("export-onnx", card, "-o", out)
    assert done.exit_code == 5
    assert digest_of(OTHER) in done.error and digest_of(BODY) in done.error


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", 3, "is no lock file"),
        (b"<<<<<<< HEAD\n{}", 3, "is no lock file"),
        (b"\xff\xfe", 3, "is no lock file"),
        (b"[" * 100_000, 3, "is no lock file"),
        (b"1" * 5000, 3, "is no lock file"),
        (b"[]", 3, "Input should be"),
        (b'{"lock_version": 2}', 3, "lock_version"),
        (b'{"lock_version": 1, "pins": {}}', 3, "pins: Extra inputs"),
        (b'{"lock_version": 1, "checkpoints": {"../x": {}}}', 3, "should match pattern"),
        (b'{"lock_version": 1, "checkpoints": {"small": {"file": "../../etc/x"}}}', 3, "should match pattern"),
        (b'{"lock_version": 1, "checkpoints": {}, "checkpoints": {}}', 3, "'checkpoints' occurs twice"),
        (b" " * (1 << 20) + b"{}", 3, "too large"),
        (json.dumps({"checkpoints": {"small": {**pin_of(BODY), "size": -1}}}).encode(), 3, "greater than 0"),
        (json.dumps({"checkpoints": {"small": {**pin_of(BODY), "sha256": "\x1b[2J"}}}).encode(), 3, "sha256"),
        (json.dumps({"checkpoints": {"small": {**pin_of(BODY), "file": "old.pth"}}}).encode(), 3, "old.pth"),
        (json.dumps({"checkpoints": {"small": pin_of(OTHER)}}).encode(), 5, digest_of(OTHER)),
    ],
)
@pytest.mark.parametrize("command", ["download", "to-ir"])
def test_an_unusable_lock_file_is_refused_in_one_line(
    cli: Cli, card: Path, out: Path, content: bytes, code: int, words: str, command: str
) -> None:
    out.mkdir()
    (out / LOCK_FILE).write_bytes(content)
    done = cli(command, card, "-o", out)
    assert done.exit_code == code
    assert words in done.error and LOCK_FILE in done.error
    assert (out / LOCK_FILE).read_bytes() == content


def test_a_pipe_in_place_of_the_lock_file_is_refused(cli: Cli, card: Path, out: Path) -> None:
    """Reading from it would never end."""
    out.mkdir(parents=True, exist_ok=True)
    os.mkfifo(out / LOCK_FILE)
    done = cli("download", card, "-o", out)
    assert done.exit_code == 3
    assert "pspnet-convert.lock: is no file" in done.error


def test_a_folder_in_place_of_the_lock_file_is_refused(cli: Cli, card: Path, out: Path) -> None:
    (out / LOCK_FILE).mkdir(parents=True)
    done = cli("download", card, "-o", out)
    assert done.exit_code == 3
    assert "is no file" in done.error


def test_a_lock_file_that_contradicts_the_cards_own_digest_is_refused(cli: Cli, small: ModelCard, out: Path) -> None:
    out.mkdir()
    pin = {"file": small.checkpoint.name, "sha256": digest_of(OTHER), "size": len(OTHER)}
    (out / LOCK_FILE).write_text(json.dumps({"checkpoints": {small.name: pin}}))
    done = cli("download", small.folder, "-o", out)
    assert done.exit_code == 5
    assert digest_of(OTHER) in done.error and str(small.checkpoint.sha256) in done.error


def test_a_card_that_knows_its_file_needs_no_lock_file(small_run: Path) -> None:
    assert not (small_run / LOCK_FILE).exists()


# Two at once, and one that is killed

PIN = """
import sys
from pathlib import Path
from pspnet_convert.cards.card import load_card
from pspnet_convert.cards.lock_file import write_pin
card, out = load_card(Path(sys.argv[1])), Path(sys.argv[2])
print(flush=True)
for number in range(40):
    write_pin(card.model_copy(update={"name": f"{card.name}{number}"}), out, *sys.argv[3:4], int(sys.argv[4]))
"""


def pinning(card: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PIN, str(card), str(out), digest_of(BODY), str(len(BODY))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_two_processes_at_once_lose_no_pin(tmp_path: Path, out: Path) -> None:
    runs = [pinning(unpinned(tmp_path / name, BODY, "x.pth", name=name), out) for name in ("a", "b")]
    assert [run.wait(600) for run in runs] == [0, 0]
    assert set(lock_of(out)["checkpoints"]) == {f"{name}{number}" for name in "ab" for number in range(40)}


def test_a_killed_process_leaves_a_whole_lock_file(tmp_path: Path, out: Path) -> None:
    card = unpinned(tmp_path / "card", BODY, "x.pth", name="a")
    for wait_s in (0.0, 0.005, 0.01, 0.02, 0.04):
        with pinning(card, out) as run:
            assert run.stdout is not None
            run.stdout.readline()
            time.sleep(wait_s)
            run.send_signal(signal.SIGKILL)
        pinned(load_card(card), out)  # reads the lock file
    write_pin(load_card(card), out, digest_of(BODY), len(BODY))
    assert "a" in lock_of(out)["checkpoints"]
    assert {path.name for path in out.iterdir()} == {"public", LOCK_FILE}


def test_a_pin_that_another_process_has_written_meanwhile_is_kept(tmp_path: Path, out: Path) -> None:
    card = load_card(unpinned(tmp_path / "card", BODY, "x.pth"))
    write_pin(card, out, digest_of(BODY), len(BODY))
    with pytest.raises(Exception, match="was pinned to"):
        write_pin(card, out, digest_of(BODY)[:8] + "0" * 56, 1)
    assert lock_of(out)["checkpoints"] == {"small": pin_of(BODY)}


def test_the_lock_file_of_another_folder_pins_nothing(tmp_path: Path, out: Path) -> None:
    card = load_card(unpinned(tmp_path / "card", BODY, "x.pth"))
    write_pin(card, out, digest_of(BODY), len(BODY))
    assert not pinned(card, tmp_path).checkpoint.pinned
    with pytest.raises(CardError, match="the card names"):
        pinned(load_card(unpinned(tmp_path / "card", BODY, "x.pth")), _with_another_file(tmp_path / "other"))


def _with_another_file(out: Path) -> Path:
    out.mkdir()
    (out / LOCK_FILE).write_text(json.dumps({"checkpoints": {"small": {**pin_of(BODY), "file": "b.pth"}}}))
    return out


# The other stages


@pytest.fixture
def derived(small: ModelCard, tmp_path: Path) -> Path:
    """The small model's card with only eight digits of its checkpoint's digest."""
    content = (small.folder / small.checkpoint.name).read_bytes()
    return unpinned(tmp_path / "derived", content, str(small.checkpoint.name), name="derived")


def test_a_checkpoint_that_is_there_is_accepted_by_its_first_digits_and_pinned(
    cli: Cli, small: ModelCard, derived: Path, out: Path
) -> None:
    folder = out / "public" / "derived"
    folder.mkdir(parents=True)
    (folder / "model.pth").write_bytes((small.folder / small.checkpoint.name).read_bytes())
    done = cli("export-onnx", derived, "-o", out)
    assert done.exit_code == 0, done.stderr
    assert f"derived: pinned to sha256 {small.checkpoint.sha256}" in done.stderr
    assert lock_of(out)["checkpoints"]["derived"]["size"] == small.checkpoint.size


def test_a_checkpoint_given_by_hand_is_checked_and_pinned(cli: Cli, small: ModelCard, derived: Path, out: Path) -> None:
    other = out / "other.pth"
    out.mkdir()
    other.write_bytes(OTHER)
    done = cli("export-onnx", derived, "-o", out, "--checkpoint", other)
    assert done.exit_code == 5
    assert not (out / LOCK_FILE).exists()
    given = small.folder / small.checkpoint.name
    assert cli("export-onnx", derived, "-o", out, "--checkpoint", given).exit_code == 0
    assert lock_of(out)["checkpoints"]["derived"]["sha256"] == small.checkpoint.sha256


def test_an_unknown_checkpoint_is_taken_and_pins_nothing(cli: Cli, small: ModelCard, tmp_path: Path, out: Path) -> None:
    card = unpinned(tmp_path / "card", BODY, "x.pth")
    given = small.folder / small.checkpoint.name
    done = cli("export-onnx", card, "-o", out, "--checkpoint", given, "--allow-unknown-checkpoint")
    assert done.exit_code == 0, done.stderr
    assert not (out / LOCK_FILE).exists()
    assert not manifests.read(out / "public" / "small")["stages"]["export-onnx"]["inputs"]["checkpoint"]["is_the_cards"]


def test_the_whole_chain_rebuild_and_bundle_work_with_a_pinned_card(
    cli: Cli, small: ModelCard, derived: Path, out: Path, tmp_path: Path
) -> None:
    source = ("--source", small.folder / small.checkpoint.name)
    done = cli("run", derived, "-o", out, *source)
    assert done.exit_code == 0, done.stderr
    folder = out / "public" / "derived"
    first = manifests.read(folder)
    assert first["model"]["files"][0]["sha256"] == small.checkpoint.sha256
    assert "verify: unchanged" in cli("run", derived, "-o", out, *source).stderr
    assert manifests.read(folder) == first
    assert cli("rebuild", "--check", folder / "manifest.json").exit_code == 0
    packed = cli("bundle", derived, "--output-dir", out, "-o", tmp_path / "small.tar.gz", "--json")
    assert packed.exit_code == 0, packed.stderr


def test_info_says_that_a_card_is_not_pinned_yet(cli: Cli, card: Path) -> None:
    done = cli("info", card)
    assert f"not pinned yet: sha256 {digest_of(BODY)[:8]}..." in done.stdout
    assert cli("info", card, "--json").json()["files"][0]["digest_prefix"] == digest_of(BODY)[:8]
