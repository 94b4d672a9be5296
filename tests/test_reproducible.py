"""The same inputs give the same bytes: another process, user settings, folder and number of threads change nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import manifests
import pytest
import torch

from pspnet_convert.cards.card import ModelCard

ARTIFACTS = {".pth", ".onnx", ".xml", ".bin"}


@pytest.fixture(scope="module")
def elsewhere(small: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model, run in a process with the settings of another user and another machine."""
    place = tmp_path_factory.mktemp("another user's home")
    for name in ("home", "tmp"):
        (place / name).mkdir()
    environment = {
        **os.environ,
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "tmp"),
        "USER": "another",
        "LOGNAME": "another",
        "LC_ALL": "C",
        "TZ": "Pacific/Auckland",
        "PYTHONHASHSEED": "4",
        "OMP_NUM_THREADS": str(torch.get_num_threads() + 1),
        "ATEN_CPU_CAPABILITY": "default",
        "COLUMNS": "40",
    }
    command = [sys.executable, "-m", "pspnet_convert", "run", str(small.folder), "-o", "out"]
    before = os.umask(0o077)
    try:
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    return place / "out" / "public" / small.name


def test_every_artifact_is_the_same_to_the_byte(small: ModelCard, small_run: Path, elsewhere: Path) -> None:
    here = small_run / "public" / small.name
    files = [{path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} for folder in (here, elsewhere)]
    assert files[0] == files[1]
    # A label map may change where two classes are almost equal.
    compared = sorted(file for file in files[0] if file.suffix in ARTIFACTS or file.name.endswith(".input.png"))
    assert {file.suffix for file in compared} == {*ARTIFACTS, ".png"}
    assert [str(file) for file in compared if (here / file).read_bytes() != (elsewhere / file).read_bytes()] == []


def without_times(data: dict[str, Any]) -> dict[str, Any]:
    for stage in data["stages"].values():
        del stage["finished"], stage["seconds"]
    return data


def numbers_apart(data: Any) -> tuple[Any, list[float]]:
    """Plain values with each float as None, and these floats in order."""
    if isinstance(data, float):
        return None, [data]
    if not isinstance(data, (dict, list)):
        return data, []
    items = list(data.items()) if isinstance(data, dict) else list(enumerate(data))
    parts = [(key, *numbers_apart(value)) for key, value in items]
    return [(key, rest) for key, rest, _ in parts], [number for *_, numbers in parts for number in numbers]


def test_the_manifest_differs_in_times_and_in_the_last_digits_of_measured_errors(
    small: ModelCard, small_run: Path, elsewhere: Path
) -> None:
    here, there = (without_times(manifests.read(folder)) for folder in (small_run / "public" / small.name, elsewhere))
    verified = [data["stages"].pop("verify") for data in (here, there)]
    assert here == there
    assert verified[0]["inputs"] == verified[1]["inputs"]
    # PyTorch adds in another order if the number of threads differs.
    (words, numbers), (other_words, other_numbers) = (numbers_apart(stage["result"]) for stage in verified)
    assert words == other_words
    assert numbers == pytest.approx(other_numbers, rel=0.5)
