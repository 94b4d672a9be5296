"""`kill -9` at any moment: the next run finishes by itself, with the same files as an undisturbed run.

For more kills than by default, or to repeat a series with the seed that a failure shows:

    pytest tests/e2e/test_kill.py --kills 30 --kill-seed 1
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import Cli
from fault_server import FaultServer, Reply
from undisturbed import assert_manifest_is_true, assert_undisturbed, digests

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cli import cli as command_line

pytestmark = pytest.mark.slow
# The seconds that each command may take. A measured time replaces the first value.
LONGEST = {"download": 3.0, "export-onnx": 8.0, "to-ir": 4.0, "run": 10.0}
DRIP = 20_000  # bytes of the checkpoint in one piece

# A sitecustomize that kills the process just before it moves its nth file into the workspace.
KILLER = """
import os, signal, sys
moves = int(os.environ["MOVES"])
def count(event, arguments):
    global moves
    if event == "os.rename" and "public" in str(arguments[1]) and ".making-" not in str(arguments[1]):
        if not moves:
            os.kill(os.getpid(), signal.SIGKILL)
        moves -= 1
sys.addaudithook(count)
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kill" in metafunc.fixturenames:
        metafunc.parametrize("kill", range(metafunc.config.getoption("kills")))


@pytest.fixture(scope="module")
def starts(small: ModelCard, small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """By command, the output folders to start from. Their ONNX and IR files differ from those that it makes."""

    def after(folder: Path, *arguments: str) -> Path:
        copy = shutil.copytree(folder, tmp_path_factory.mktemp("start") / "output")
        command, *options = arguments
        done = CliRunner().invoke(command_line, [command, str(small.folder), "-o", str(copy), *options])
        assert done.exit_code == 0, done.output
        return copy

    nothing = tmp_path_factory.mktemp("nothing")
    unfolded = after(small_run, "run", "--no-fold-pyramid")
    exported = after(unfolded, "export-onnx")
    return {"download": [nothing], "export-onnx": [unfolded], "to-ir": [exported], "run": [nothing, unfolded]}


@pytest.fixture(scope="module")
def slow(small: ModelCard) -> Iterator[FaultServer]:
    """A slow server, so that a download can be killed in the middle."""
    with FaultServer((small.folder / small.checkpoint.name).read_bytes()).running() as server:
        yield server


@pytest.fixture(scope="module")
def longest() -> dict[str, float]:
    return dict(LONGEST)


def killed_after(seconds: float, arguments: list[str], *, with_children: bool) -> bool:
    """Run the program and kill it, alone or with its children; False if it ended well before that."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pspnet_convert", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, stderr = process.communicate(timeout=seconds)
        assert process.returncode == 0, stderr
        return False
    except subprocess.TimeoutExpired:
        if with_children:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        return True


def test_the_next_run_completes_one_that_was_killed_at_any_moment(
    cli: Cli,
    small: ModelCard,
    small_run: Path,
    starts: dict[str, list[Path]],
    slow: FaultServer,
    longest: dict[str, float],
    pytestconfig: pytest.Config,
    tmp_path: Path,
    kill: int,
) -> None:
    seed = pytestconfig.getoption("kill_seed")
    chance = random.Random(f"{seed} {kill}")
    command = list(LONGEST)[kill % len(LONGEST)]
    start = chance.choice(starts[command])
    with_children = kill // len(LONGEST) % 2 == 1
    output = tmp_path / "output"
    options = ["--source", slow.url("/")] if command == "download" else []
    while True:
        shutil.copytree(start, output)
        slow.play(slow.body, [Reply(drip=DRIP, drip_s=0.05)])
        seconds = chance.uniform(0, longest[command])
        print(f"--kill-seed {seed}, kill {kill}: {command} after {seconds:.2f} s, {with_children=}, {start=}")
        began = time.monotonic()
        arguments = [command, str(small.folder), "-o", str(output), *options]
        if killed_after(seconds, arguments, with_children=with_children):
            break
        longest[command] = time.monotonic() - began
        shutil.rmtree(output)
    folder = output / "public" / small.name
    assert_manifest_is_true(folder)
    result = cli("run", small.folder, "-o", output)
    assert result.exit_code == 0, result.stderr
    assert_undisturbed(folder, small_run / "public" / small.name)


def test_an_ir_is_never_of_two_conversions(
    cli: Cli, small: ModelCard, small_run: Path, starts: dict[str, list[Path]], tmp_path: Path
) -> None:
    """`to-ir`, killed before each of its moves: `verify` refuses an IR without a record, `run` makes it again."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(KILLER)
    (start,) = starts["to-ir"]
    old, new = (digests(output / "public" / small.name) for output in (start, small_run))
    codes = []
    for moves in range(20):
        output = shutil.copytree(start, tmp_path / f"{moves}")
        folder = output / "public" / small.name
        done = subprocess.run(
            [sys.executable, "-m", "pspnet_convert", "to-ir", str(small.folder), "-o", str(output)],
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "MOVES": str(moves)},
            capture_output=True,
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        assert_manifest_is_true(folder)
        there = {name: digest for name, digest in digests(folder).items() if re.match("FP../small", name)}
        assert there.items() <= new.items() or (len(there) == 1 and there.items() <= old.items())
        codes.append(cli("verify", small.folder, "-o", output).exit_code)
        assert_manifest_is_true(folder)
        result = cli("run", small.folder, "-o", output)
        assert result.exit_code == 0, result.stderr
        assert digests(folder) == new
    # Before the .bin and .xml of each precision, and before the manifest and the page.
    assert codes == [11, 11, 11, 11, 11, 0]
