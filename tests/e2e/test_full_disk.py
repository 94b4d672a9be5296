"""A full disk, or a file that may not grow: one clear error, nothing broken. With room, the next run goes on.

Two ways: a limit on the size of files (on any system) for each stage, and a small file system for whole runs.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Cli
from undisturbed import assert_manifest_is_true, assert_undisturbed, digests

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.benchmark.figures import Timing
from pspnet_convert.commands.benchmark.plot import plot_benchmark
from pspnet_convert.errors import WorkspaceError
from pspnet_convert.files import write_atomically

PHOTO = Path(__file__).parents[2] / "pspnet_convert" / "data" / "samples" / "chelsea.jpg"
DISK = 16 << 20  # bytes; the small model's files are a fifth of it
ADVICE = ". Make room there, or choose another folder."


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes, neither by this process nor by its children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def folder(workspace: Path, small: ModelCard) -> Path:
    return workspace / "public" / small.name


@pytest.mark.parametrize(
    ("command", "file", "refused"),
    [
        ("download", "standin.pth", "standin.pth.part"),
        ("export-onnx", "small-standin.onnx", ""),
        ("to-ir", "FP32/small-standin.bin", ""),
        ("to-ir", "FP32/small-standin.xml", ""),
        ("to-ir --precision FP16", "FP16/small-standin.bin", ""),
        ("to-ir --precision FP16", "FP16/small-standin.xml", ""),
        ("verify --force", "manifest.json", ""),
        ("benchmark --rounds 1", "small-standin.onnx", ""),
    ],
)
def test_a_stage_that_cannot_write_a_file_leaves_the_others_and_can_be_repeated(
    cli: Cli, small: ModelCard, small_run: Path, workspace: Path, folder: Path, command: str, file: str, refused: str
) -> None:
    """Each file may grow to two thirds of the size of `file`."""
    name, *options = command.split()
    size = (folder / file).stat().st_size * 2 // 3
    if name != "benchmark":  # which writes other models elsewhere
        (folder / file).unlink()
    before = digests(folder)
    with files_of_at_most(size):
        result = cli(name, small.folder, "-o", workspace, *options)
    assert result.exit_code == 12
    assert f"{folder / refused}: cannot be written: File too large{ADVICE}" in result.error
    assert {name: sha for name, sha in digests(folder).items() if not name.endswith(".part")} == before
    assert_manifest_is_true(folder)
    assert cli("run", small.folder, "-o", workspace).exit_code == 0
    assert_undisturbed(folder, small_run / "public" / small.name)


def test_a_picture_that_cannot_be_written(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    with files_of_at_most(5_000):
        result = cli("segment", PHOTO, "--model", small.folder, "-o", workspace)
    assert result.exit_code == 12
    assert f"{folder / 'segmented'}: cannot be written: File too large{ADVICE}" in result.error
    assert list((folder / "segmented").iterdir()) == []


def test_a_plot_that_cannot_be_written(tmp_path: Path) -> None:
    row = Timing("IR", "plain", "FP32", "f32", "f32", "CPU", None, 1, 1.0, 1.0, None, *[1.0] * 5)
    refused = pytest.raises(WorkspaceError, match="cannot be written: File too large")
    with refused, files_of_at_most(5_000), write_atomically(tmp_path / "plot.png") as (temporary,):
        plot_benchmark([row], temporary)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("command", [["info", "demo"], ["info", "demo", "--json"]])
def test_output_that_cannot_be_written(command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        program = [sys.executable, "-m", "pspnet_convert", *command]
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 12
    assert done.stderr == "error: the output cannot be written: No space left on device. Make room for it.\n"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of DISK bytes."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here ({error}): the tests above stand in for these")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def leave(room: int, disk: Path) -> Path:
    """Fill the disk except for `room` bytes; returns the file that fills it."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, DISK - room)
    return filler


@pytest.mark.slow
# The disk is full at once, or in the ONNX, an IR's .bin, an .xml or the last files.
@pytest.mark.parametrize("share", [0, 0.4, 0.7, 0.97, 0.995])
def test_a_run_on_a_full_disk_goes_on_when_there_is_room(
    cli: Cli, small: ModelCard, small_run: Path, disk: Path, share: float
) -> None:
    """There is room for a share of the bytes that a run writes."""
    written = sum(file.stat().st_size for file in small_run.rglob("*") if file.is_file())
    filler = leave(int(share * written), disk)
    result = cli("run", small.folder, "-o", disk)
    assert result.exit_code == 12
    assert f": cannot be written: No space left on device{ADVICE}" in result.error
    folder, wanted = disk / "public" / small.name, small_run / "public" / small.name
    assert digests(folder).items() <= {**digests(wanted), **partial(folder)}.items()
    assert_manifest_is_true(folder)
    filler.unlink()
    result = cli("run", small.folder, "-o", disk)
    assert result.exit_code == 0, result.stderr
    assert_undisturbed(folder, wanted)


def partial(folder: Path) -> dict[str, str]:
    """The bytes that an unfinished download may leave, in a file named .part."""
    return {name: sha for name, sha in digests(folder).items() if name.endswith(".part")}
