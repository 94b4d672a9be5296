"""Files get their names whole or not at all, one process works at a time, and its leftovers are removed."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import WorkspaceError
from pspnet_convert.files import sha256_of, write_atomically, write_json
from pspnet_convert.workspace import Workspace

# Holds the lock of the model `name` below argv[1] until its stdin ends, with a temporary folder half filled.
HOLDER = """
import sys
from pathlib import Path
from pspnet_convert.workspace import Workspace
from pspnet_convert.files import write_atomically
workspace = Workspace(Path(sys.argv[1]), sys.argv[2])
with workspace.locked(), write_atomically(workspace.ir("FP32")) as (half,):
    half.write_text("half")
    print("held", flush=True)
    sys.stdin.read()
    half.write_text("whole")
"""


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != ".lock")


def test_the_folders_are_open_model_zoos() -> None:
    workspace = Workspace(Path("out"), "m")
    assert workspace.checkpoint("a.pth") == Path("out/public/m/a.pth")
    assert workspace.onnx == Path("out/public/m/m.onnx")
    assert workspace.ir("FP16") == Path("out/public/m/FP16/m.xml")
    assert workspace.manifest == Path("out/public/m/manifest.json")


def test_a_block_that_ends_well_replaces_all_targets(tmp_path: Path) -> None:
    targets = [tmp_path / "new" / "a", tmp_path / "other" / "b"]
    with write_atomically(*targets) as made:
        assert [path.name for path in made] == ["a", "b"]
        for path in made:
            path.write_text("new")
        assert not any(target.exists() for target in targets)
    assert [target.read_text() for target in targets] == ["new", "new"]
    assert files(tmp_path) == ["new", "new/a", "other", "other/b"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_leaves_the_old_files_and_no_temporary(tmp_path: Path, error: type[BaseException]) -> None:
    targets = [tmp_path / "a", tmp_path / "b"]
    targets[0].write_text("old")
    with pytest.raises(error), write_atomically(*targets) as made:
        for path in made:
            path.write_text("new")
        raise error
    assert files(tmp_path) == ["a"]
    assert targets[0].read_text() == "old"


def test_a_block_that_makes_only_one_of_two_files_replaces_none(tmp_path: Path) -> None:
    targets = [tmp_path / "a", tmp_path / "b"]
    targets[0].write_text("old")
    with (
        pytest.raises(WorkspaceError, match="cannot be written: No such file"),
        write_atomically(*targets) as (first, _),
    ):
        first.write_text("new")
    assert files(tmp_path) == ["a"]
    assert targets[0].read_text() == "old"


@pytest.mark.parametrize(("moves", "left"), [(0, {"a": "old"}), (1, {"a": "new"}), (2, {"a": "new", "b": "new"})])
def test_old_and_new_files_are_never_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int, left: dict[str, str]
) -> None:
    targets = [tmp_path / name for name in "abc"]
    for target in targets:
        target.write_text("old")
    real = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if targets.index(target) == moves:
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt), write_atomically(*targets) as made:
        for path in made:
            path.write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == left


def test_a_target_that_is_a_folder_is_a_workspace_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with (
        pytest.raises(WorkspaceError, match="cannot be written: Is a directory"),
        write_atomically(tmp_path / "a") as (made,),
    ):
        made.write_text("new")
    assert files(tmp_path) == ["a"]


def test_a_full_disk_is_a_workspace_error(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="No space left") as caught, write_atomically(tmp_path / "a") as (made,):
        made.symlink_to("/dev/full")
        made.write_text("new")
    assert caught.value.advice == "Make room there, or choose another folder."
    assert files(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
def test_a_power_cut_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All bytes are on the disk before the first name is, and the names are before the block is over."""
    flushed: list[tuple[str, bool]] = []
    targets = [tmp_path / "a", tmp_path / "folder" / "b"]

    def fsync(number: int) -> None:
        flushed.append((Path(f"/proc/self/fd/{number}").resolve().name, targets[0].exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with write_atomically(*targets) as made:
        for path in made:
            path.write_text("new")
    assert flushed == [("a", False), ("b", False), (tmp_path.name, True), ("folder", True)]


def test_json_is_read_whole_by_another_thread_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    write_json(path, list(range(5000)))
    stop = threading.Event()
    lengths: set[int] = set()

    def read() -> None:
        while not stop.is_set():
            lengths.add(len(json.loads(path.read_text(encoding="utf-8"))))

    reader = threading.Thread(target=read)
    reader.start()
    for length in (10, 5000) * 10:
        write_json(path, list(range(length)))
    stop.set()
    reader.join()
    assert lengths <= {10, 5000}
    assert lengths


@given(content=st.binary(max_size=100), times=st.sampled_from([0, 1, 30_000]))
def test_sha256_is_hashlibs(tmp_path_factory: pytest.TempPathFactory, content: bytes, times: int) -> None:
    path = tmp_path_factory.getbasetemp() / "digested"
    path.write_bytes(content * times)
    assert sha256_of(path) == hashlib.sha256(content * times).hexdigest()


def test_sha256_of_nothing_is_a_workspace_error(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="none: cannot be read: No such file"):
        sha256_of(tmp_path / "none")


def hold(root: Path, name: str) -> subprocess.Popen[str]:
    """A process that holds the lock; it has it when this returns."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_process_says_that_it_waits_and_then_goes_on(small: ModelCard, tmp_path: Path) -> None:
    holder = hold(tmp_path, small.name)
    command = [sys.executable, "-m", "pspnet_convert", "download", str(small.folder), "-o", str(tmp_path)]
    second = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert second.stderr is not None
        assert second.stderr.readline().startswith("waiting for another pspnet-convert that works in ")
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(timeout=0.5)
        folder = Workspace(tmp_path, small.name).folder
        assert not (folder / "standin.pth").exists()
        holder.communicate("")
        assert holder.returncode == 0
        assert second.wait(timeout=600) == 0
    finally:
        for process in (holder, second):
            process.kill()
            process.communicate()
    # The files that the first was writing are whole: the second has not removed them.
    assert Workspace(tmp_path, small.name).ir("FP32").read_text() == "whole"
    assert (folder / "standin.pth").stat().st_size == small.checkpoint.size


def test_leftovers_of_a_killed_process_are_removed_and_its_lock_is_free(
    cli: Cli, small: ModelCard, tmp_path: Path
) -> None:
    holder = hold(tmp_path, small.name)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert holder.returncode == -signal.SIGKILL
    folder = Workspace(tmp_path, small.name).folder
    (folder / ".making-file").write_text("")
    assert any(name.startswith("FP32/.making-") for name in files(folder))
    assert cli("download", small.folder, "-o", tmp_path).exit_code == 0
    assert files(folder) == ["FP32", "manifest.json", "standin.pth"]


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "m")
    with pytest.raises(RuntimeError), workspace.locked():
        raise RuntimeError
    holder = hold(tmp_path, "m")  # returns: it did not wait
    holder.communicate("")
    assert holder.returncode == 0


@pytest.mark.parametrize("command", ["run", "download", "export-onnx", "to-ir", "verify"])
def test_an_output_folder_under_a_file_is_refused(cli: Cli, small: ModelCard, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        result = cli(command, small.folder, "-o", output)
        assert result.exit_code == 12
        folder = output / "public" / small.name
        assert f"{folder}: cannot be written: Not a directory. Choose a folder that can be written." in result.error
    assert files(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_an_output_folder_that_the_system_forbids_is_refused(cli: Cli, small: ModelCard) -> None:
    result = cli("run", small.folder, "-o", "/proc/here")
    assert result.exit_code == 12
    assert "/proc/here/public/small-standin: cannot be written: " in result.error


def _give_up_roots_right_to_write_anywhere() -> None:
    drop_from_bounding_set, dac_override = 24, 1  # linux/prctl.h, linux/capability.h
    ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="capabilities are Linux's")
@pytest.mark.parametrize("used_before", [False, True])
def test_a_folder_without_write_permission_is_refused(small: ModelCard, tmp_path: Path, used_before: bool) -> None:
    folder = tmp_path / "public" / small.name
    folder.mkdir(parents=True)
    if used_before:
        (folder / ".lock").touch()
        (folder / ".lock").chmod(0o400)
    folder.chmod(0o500)
    command = [sys.executable, "-m", "pspnet_convert", "run", str(small.folder), "-o", str(tmp_path)]
    as_any_user = _give_up_roots_right_to_write_anywhere if os.geteuid() == 0 else None
    try:
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=as_any_user)
    finally:
        folder.chmod(0o700)
    assert done.returncode == 12
    assert "cannot be written: Permission denied" in done.stderr
    assert files(folder) == []
