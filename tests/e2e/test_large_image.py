"""An image of 12000x12000 through windows, in less than 2 GB."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from PIL import Image as Pillow

from pspnet_convert.cards.catalog import find_card

_MOST = 2 * 10**9  # bytes
_MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # of this process
def test_an_image_of_12000x12000(cli: Cli, demo_run: Path, tmp_path: Path) -> None:
    digits = sorted((find_card("demo").folder / "voc" / "JPEGImages").glob("*.jpg"))[0]
    with Pillow.open(digits) as tile:
        assert tile.size == (200, 200)
        tile.save(tmp_path / "tile.png")
        Pillow.fromarray(np.tile(np.asarray(tile), (60, 60, 1))).save(tmp_path / "large.png", compress_level=1)
    options = ["--model", "demo", "-o", shutil.copytree(demo_run, tmp_path / "out"), "--json"]
    (alone,) = cli("segment", tmp_path / "tile.png", *options).json()
    command = ["-m", "pspnet_convert", "segment", tmp_path / "large.png", *options, "--slide", "--overlap", "0"]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=True,
    )
    result, _, kibibytes = done.stdout.strip().rpartition("\n")
    assert int(kibibytes) * 1024 < _MOST
    (one,) = json.loads(result)
    with Pillow.open(alone["labels"]) as expected, Pillow.open(one["labels"]) as found:
        assert np.array_equal(np.asarray(found), np.tile(np.asarray(expected), (60, 60)))
