"""Two commands at once in one folder: both succeed, and the files are those of a single run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli
from PIL import Image
from undisturbed import assert_undisturbed

from pspnet_convert.cards.card import ModelCard

pytestmark = pytest.mark.slow
PHOTO = Path(__file__).parents[2] / "pspnet_convert" / "data" / "samples" / "chelsea.jpg"


def together(*commands: list[str]) -> None:
    """Run all at the same time; each must succeed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "pspnet_convert", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    for process in processes:
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_two_runs_from_nothing(small: ModelCard, small_run: Path, tmp_path: Path, options: list[str]) -> None:
    run = ["run", str(small.folder), "-o", str(tmp_path)]
    together(run, [*run, *options])
    assert_undisturbed(tmp_path / "public" / small.name, small_run / "public" / small.name)


def test_segment_sees_the_old_ir_or_the_new_one_and_no_mix(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path
) -> None:
    """Both IRs are of one network, folded and not folded: either of them gives the same picture."""
    segment = ["segment", str(PHOTO), "--model", str(small.folder), "-o", str(workspace)]
    assert cli(*segment).exit_code == 0
    (labels,) = workspace.rglob("chelsea.labels.png")
    before = Image.open(labels).tobytes()
    run = ["run", str(small.folder), "-o", str(workspace), "--no-fold-pyramid"]
    together(run, segment, segment)
    after = Image.open(labels).tobytes()
    assert sum(a != b for a, b in zip(before, after)) < len(before) / 1000
