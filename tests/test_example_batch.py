"""The batch job: every picture of a folder once, in batches of the model's size, and on after an interruption."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from channel_models import blue_of, save_blue_model, save_noise
from PIL import Image

PROGRAM = Path(__file__).parent.parent / "examples" / "03-batch" / "segment_folder.py"


def segment(xml: Path, folder: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), str(xml), str(folder), str(target)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    "form",
    [{}, {"batch": 2, "type": "u8", "layout": "NHWC"}, {"batch": -1, "label_type": "i32", "probabilities": True}],
    ids=str,
)
def test_each_picture_of_a_folder_gets_its_label_map(tmp_path: Path, form: dict[str, Any]) -> None:
    names = ["a.png", "b.tif", "deep/down/a.png", "deep/down/a.bmp", "last.ppm"]
    (tmp_path / "in" / "deep" / "down").mkdir(parents=True)
    pictures = {name: save_noise(tmp_path / "in" / name, (30 + i, 90), seed=i) for i, name in enumerate(names)}
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    done = segment(save_blue_model(tmp_path / "blue.xml", **form), tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5 pictures segmented, 0 damaged\n"
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert found == sorted(f"{name}.png" for name in names)
    for name, rgb in pictures.items():
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / f"{name}.png")), blue_of(rgb, (40, 56)))


def test_an_interrupted_job_goes_on(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        save_noise(tmp_path / "in" / f"{number}.png", (40, 56), seed=number)
    xml = save_blue_model(tmp_path / "blue.xml")
    assert segment(xml, tmp_path / "in", tmp_path / "out").stdout.startswith("3 pictures")
    (tmp_path / "out" / "1.png.png").unlink()
    (tmp_path / "out" / "0.png.png").write_bytes(b"done already")
    assert segment(xml, tmp_path / "in", tmp_path / "out").stdout.startswith("1 pictures")
    assert (tmp_path / "out" / "1.png.png").exists()
    assert (tmp_path / "out" / "0.png.png").read_bytes() == b"done already"


def test_a_damaged_picture_is_reported_and_the_others_are_done(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        save_noise(tmp_path / "in" / f"{number}.png", (40, 56), seed=number)
    whole = (tmp_path / "in" / "1.png").read_bytes()
    (tmp_path / "in" / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "2.jpg").write_text("no picture")
    done = segment(save_blue_model(tmp_path / "blue.xml"), tmp_path / "in", tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "2 pictures segmented, 2 damaged\n")
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == [
        str(tmp_path / "in" / name) for name in ("1.png", "2.jpg")
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png.png", "2.png.png"]


def test_it_compiles_at_the_precision_that_the_ir_says(tmp_path: Path) -> None:
    """OpenVINO refuses to compute in bytes, which shows that it was asked to."""
    (tmp_path / "in").mkdir()
    done = segment(save_blue_model(tmp_path / "blue.xml", precision="u8"), tmp_path / "in", tmp_path / "out")
    assert done.returncode != 0
    assert "Wrong value u8" in done.stderr
