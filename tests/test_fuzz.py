"""A few cases of scripts/fuzz.py, and that it detects faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fuzz
import pytest
from fuzz import Seed, attempt, make_seeds, run_cases, table

from pspnet_convert.cards.card import load_card
from pspnet_convert.errors import CardError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def seeds(folder: Path) -> list[Seed]:
    return make_seeds(folder, folder / "canary")


def test_damaged_files_give_a_message_or_a_model(
    monkeypatch: pytest.MonkeyPatch, seeds: list[Seed], folder: Path
) -> None:
    monkeypatch.setattr(fuzz, "SECONDS", 120)  # the machine may be busy
    results = run_cases(seeds, range(60), 0, folder, folder / "canary")
    assert [result for result in results if result.fault] == []
    outcomes = {result.outcome for result in results}
    assert {"loaded", "CardError", "CheckpointError", "ArtifactError"} <= outcomes
    assert table(results).splitlines()[0].split()[:3] == ["file", "damage", "cases"]


def test_each_damage_changes_the_bytes_and_is_repeatable(seeds: list[Seed]) -> None:
    from random import Random

    for seed in seeds:
        for name, way in seed.ways.items():
            made = [way(Random(number), seed.data) for number in range(3)]
            assert any(data != seed.data for data in made), (seed.name, name)
            assert made == [way(Random(number), seed.data) for number in range(3)]


@pytest.mark.parametrize(
    ("error", "outcome", "fault"),
    [
        (CardError("model.yml: is wrong"), "CardError", ""),
        (CardError("a" * 5000), "CardError", "a message that is not one short line"),
        (CardError(""), "CardError", "a message that is not one short line"),
        (KeyError("name"), "none", "KeyError: 'name'"),
        (RecursionError(), "none", "RecursionError"),
        (SystemExit(0), "none", "SystemExit"),
    ],
)
def test_a_bad_message_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, outcome: str, fault: str
) -> None:
    def load(kind: str, path: Path) -> None:
        raise error

    monkeypatch.setattr(fuzz, "load", load)
    found, told = attempt("card", Path("model.yml"))
    assert found == outcome
    assert fault in told if fault else told == ""


class Misbehaving(fuzz.Worker):
    """A worker that runs its cases as Python code instead of loading them."""

    def _start(self) -> None:
        self._connection, theirs = fuzz._SPAWN.Pipe()
        self._process = fuzz._SPAWN.Process(target=run_python, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        assert self._connection.recv() == "ready"


def run_python(connection: Any) -> None:
    connection.send("ready")
    while True:
        _, path = connection.recv()
        exec(path.read_text())
        connection.send(("loaded", ""))


@pytest.mark.parametrize(
    ("code", "seconds", "fault"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 60, "the process died: exit status -11"),
        ("import os; os._exit(3)", 60, "the process died: exit status 3"),
        ("import time; time.sleep(60)", 0.1, "takes more than 0.1 s"),
        ("pass", 60, ""),
    ],
)
def test_a_crash_and_a_hang_are_faults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, seconds: float, fault: str
) -> None:
    monkeypatch.setattr(fuzz, "SECONDS", seconds)
    (tmp_path / "card").mkdir()
    worker = Misbehaving(tmp_path, [Seed("card", "model.yml", b"", {})])
    assert worker.load("card", "model.yml", code.encode())[1] == fault
    worker.stop()


def test_code_that_runs_is_a_fault(seeds: list[Seed], tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    def touch(_: Any, data: bytes) -> bytes:
        canary.touch()
        return data

    card = next(seed for seed in seeds if seed.kind == "card")
    (result,) = run_cases([Seed(card.kind, card.name, card.data, {"touch": touch})], [0], 0, tmp_path, canary)
    assert (result.outcome, result.fault) == ("loaded", "code in the file was run")
    assert load_card(tmp_path / "worker-0" / "card" / card.name)
