"""What the tests share: a small PSPNet with random weights, its whole chain run once, and the CLI.

`cli` runs a command in this process. `offline` runs it in another process, which has no network.
A test marked `slow` runs with `--all`. Each worker of pytest-xdist uses one processor.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from bundles import unpacked
from click.testing import CliRunner

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.cli import cli as command_line
from pspnet_convert.runtimes.openvino_install import has_model_optimizer

SMALL = {
    "model.backbone.base_channels": 8,
    "model.backbone.stem_channels": 8,
    "model.decode_head.in_channels": 64,
    "model.decode_head.channels": 16,
    "model.decode_head.num_classes": 5,
    "model.auxiliary_head.in_channels": 32,
    "model.auxiliary_head.channels": 8,
    "model.auxiliary_head.num_classes": 5,
}
needs_mo = pytest.mark.skipif(
    not has_model_optimizer(), reason="needs openvino-dev (Model Optimizer), which ended with OpenVINO 2024.6"
)


def slow(*values: object) -> Any:
    """A case of a parametrised test that is left out of the short run."""
    return pytest.param(*values, marks=pytest.mark.slow)


# The small model's weights are random: its pixels are less certain than a trained model's.
LENIENT = ("--min-agreement", 0.5)


# PyTorch, OpenMP, OpenVINO and child processes all start a thread for each processor that they may use.
if (_worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    _processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_processors[int(_worker.removeprefix("gw")) % len(_processors)]})
_left_out = 0  # how many slow tests
# No property test may fail because the machine is busy.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the slow tests as well")
    parser.addoption("--kills", type=int, default=5, help="how many runs tests/e2e/test_kill.py kills")
    parser.addoption("--kill-seed", type=int, default=time.time_ns(), help="repeat an earlier series of kills")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    global _left_out
    slow_ones = [item for item in items if item.get_closest_marker("slow")]
    others = [item for item in items if not item.get_closest_marker("slow")]
    if config.getoption("--all"):
        items[:] = slow_ones + others  # the longest first, or one worker waits for them at the end
        return
    items[:] = others
    config.hook.pytest_deselected(items=slow_ones)
    _left_out = max(_left_out, len(slow_ones))
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = _left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Called with pytest-xdist, where each worker has collected all tests."""
    global _left_out
    _left_out = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left_out:
        terminalreporter.write_line(f"{_left_out} slow tests were left out. `scripts/test --all` runs them.")


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code and what it printed."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line that begins with `error: `; there must be one, and it must be the last."""
        *_, last = self.stderr.strip().splitlines()
        assert last.startswith("error: "), self.stderr
        assert self.stderr.count("error: ") == 1, self.stderr
        assert "Traceback" not in self.stderr
        return last

    def json(self) -> Any:
        return json.loads(self.stdout)


Cli = Callable[..., Result]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def call(*arguments: object) -> Result:
    """What the fixture `cli` does, for fixtures of a module."""
    done = CliRunner().invoke(command_line, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Result(done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Run a command in this process: `cli("info", "demo").stdout`. A traceback fails the test."""
    monkeypatch.delenv("PSPNET_CONVERT_SOURCE", raising=False)
    yield call
    logging.getLogger("pspnet_convert").handlers = []  # its stream was the runner's, and is closed


def write_small_card(folder: Path, **changes: Any) -> Path:
    """The card of a five-class ResNet-18 PSPNet at 72x64; its checkpoint is not there yet."""
    data = find_card().model_dump(mode="json", exclude_none=True)
    data.update(
        name="small",
        config="pspnet/pspnet_r18-d8_4xb4-80k_potsdam-512x512.py",
        config_overrides=SMALL,
        accuracy=[],
        classes=data["classes"][:5],
    )
    data["input"]["shape"] = [1, 3, 72, 64]
    data["output"].update(shape=[1, 1, 72, 64], values=[0, 4])
    data["testing"]["pipeline"][1]["scale"] = [256, 64]
    data.update(changes)
    if data["background"] not in [label["name"] for label in data["classes"]]:
        del data["background"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.yml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    """The small model: a card with its checkpoint (legacy format, with an auxiliary head) next to it."""
    from make_standin_checkpoint import make_standin

    folder = tmp_path_factory.mktemp("small")
    card = load_card(write_small_card(folder))
    return load_card(make_standin(card, folder))


@pytest.fixture(scope="session")
def small_run(small: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of one `run` of the small model. Read only; `workspace` gives a copy."""
    folder = tmp_path_factory.mktemp("run")
    done = CliRunner().invoke(command_line, ["run", str(small.folder), "-o", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of one `run` of the demo. Read only."""
    folder = tmp_path_factory.mktemp("demo")
    done = CliRunner().invoke(command_line, ["run", "demo", "-o", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="session")
def quantized(small: ModelCard, small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of the small model, with its INT8 IR. Read only."""
    folder = shutil.copytree(small_run, tmp_path_factory.mktemp("quantized") / "out")
    arguments = ["quantize", small.folder, "-o", folder, *LENIENT]
    done = CliRunner().invoke(command_line, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="session")
def small_bundle(small: ModelCard, small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """The contents of the small model's bundle, by path below the model's folder."""
    target = tmp_path_factory.mktemp("bundle") / "small.tar.gz"
    command = ["bundle", str(small.folder), "--output-dir", str(small_run), "-o", str(target)]
    done = CliRunner().invoke(command_line, command)
    assert done.exit_code == 0, done.output
    return unpacked(target)


@pytest.fixture
def workspace(small_run: Path, tmp_path: Path) -> Path:
    """A copy of the small model's finished run, to break."""
    return shutil.copytree(small_run, tmp_path / "workspace")


# A sitecustomize for the process: any connection that leaves the machine fails.
OFFLINE = """
import socket
_connect = socket.socket.connect
def connect(self, address):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(101, f"a test that is offline connects to {address}")
    return _connect(self, address)
socket.socket.connect = connect
"""


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run `pspnet-convert` in an empty folder, without a network: `offline("run", "demo", cwd=...)`."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(OFFLINE)

    def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pspnet_convert", *(str(argument) for argument in arguments)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
        )

    return run
