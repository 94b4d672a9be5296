"""`rebuild --check`: files that differ are an error, and tools that differ are named."""

from __future__ import annotations

import re
import shutil
from importlib.metadata import version
from pathlib import Path

import manifests
import pytest
from conftest import Cli, needs_mo

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.rebuild.plan import FILE_ARGUMENTS


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


@pytest.fixture
def manifest(folder: Path) -> Path:
    return folder / "manifest.json"


@pytest.mark.parametrize("front_end", [pytest.param(["mo", "--mo-arg", "static_shape"], marks=needs_mo), ["ovc"]])
def test_the_manifests_own_options_give_the_same_files(
    front_end: list[str], cli: Cli, small: ModelCard, workspace: Path, folder: Path, manifest: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    own = Path(shutil.copy(small.folder / small.checkpoint.name, tmp_path / "own.pth"))
    with own.open("ab") as file:
        file.write(b"\0")  # another file, of the same tensors
    export = [
        "--input-shape",
        "1,3,64,80",
        "--opset",
        "20",
        "--label-type",
        "int32",
        "--no-fold-pyramid",
        "--checkpoint",
        own,
    ]
    export += ["--output", "probabilities", "--output", "labels"]
    for command in (
        ["export-onnx", *export, "--allow-unknown-checkpoint"],
        ["to-ir", "--precision", "FP16", "--front-end", *front_end],
    ):
        done = cli(command[0], small.folder, "-o", workspace, *command[1:])
        assert done.exit_code == 0, done.stderr
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    result = cli("rebuild", "--check", manifest, "--checkpoint", own, "--json")
    assert result.exit_code == 0, result.stderr
    recorded = [file for name in ("export-onnx", "to-ir") for file in manifests.read(folder)["stages"][name]["outputs"]]
    assert [file["file"] for file in recorded] == [
        "small-standin.onnx", "FP16/small-standin.bin", "FP16/small-standin.xml",
    ]  # fmt: skip
    assert result.json() == {
        "same": True,
        "files": [
            {"file": file["file"], "recorded": file["sha256"], "rebuilt": file["sha256"], "same": True}
            for file in recorded
        ],
        "other_tools": [],
        "left_out": [],
    }
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert list((tmp_path / "tmp").iterdir()) == []


def test_other_files_are_an_error_and_other_tools_a_warning(cli: Cli, quantized: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(quantized, tmp_path / "copied") / "public" / "small-standin"
    manifest = folder / "manifest.json"
    with manifests.changed(folder) as data:
        stages = data["stages"]
        (weights,) = [file for file in stages["to-ir"]["outputs"] if file["file"] == "FP16/small-standin.bin"]
        weights["sha256"] = "0" * 64
        stages["to-ir"]["tools"]["openvino"] = "2023.0.0"
        stages["export-onnx"]["tools"]["a-tool-that-is-gone"] = "1.0"
    result = cli("rebuild", "--check", manifest)
    assert result.exit_code == 19
    assert f"{manifest}: made again, these files differ: FP16/small-standin.bin" in result.error
    assert f"openvino: 2023.0.0 in the manifest, {version('openvino')} here" in result.stderr
    assert "a-tool-that-is-gone: 1.0 in the manifest, none here" in result.stderr
    rows = [line for line in result.stdout.splitlines() if "small-standin" in line]
    assert len(rows) == 5
    assert [line for line in result.stdout.splitlines() if "quantize" in line and "not made again" in line]
    assert ["DIFFERENT" in row for row in rows] == ["FP16/small-standin.bin" in row for row in rows]


def test_files_made_with_another_option_differ(cli: Cli, folder: Path, manifest: Path) -> None:
    with manifests.changed(folder) as data:
        del data["stages"]["to-ir"]
        data["stages"]["export-onnx"]["options"]["fold_pyramid"] = False
    result = cli("rebuild", "--check", manifest, "--json")
    assert result.exit_code == 19
    (file,) = result.json()["files"]
    assert len(file["rebuilt"]) == 64
    assert (file["same"], result.json()["same"]) == (False, False)
    assert "these files differ: small-standin.onnx. The tools are the same" in result.error


def test_files_that_no_conversion_makes_differ(cli: Cli, folder: Path, manifest: Path) -> None:
    with manifests.changed(folder) as data:
        del data["stages"]["to-ir"]
        data["stages"]["export-onnx"]["outputs"][0]["file"] = "another.onnx"
    result = cli("rebuild", "--check", manifest, "--json")
    assert result.exit_code == 19
    assert result.json()["files"][0]["rebuilt"] is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("extensions", "x.so"), ("transformations_config", "x.json"), ("silent", "--transformations_config=x.json")],
)
def test_a_manifest_cannot_make_model_optimizer_read_files(
    cli: Cli, folder: Path, manifest: Path, name: str, value: str
) -> None:
    with manifests.changed(folder) as data:
        data["stages"]["to-ir"]["options"]["mo_args"] = {name: value, "static_shape": True}
    result = cli("rebuild", "--check", manifest)
    assert result.exit_code == 11
    assert f"{manifest}: makes Model Optimizer read files ({name}), which rebuild refuses" in result.error


@needs_mo
def test_every_path_argument_of_model_optimizer_is_refused() -> None:
    from openvino.tools.mo.utils.cli_parser import get_mo_convert_params

    known = {name: told for group in get_mo_convert_params().values() for name, told in group.items()}
    paths = {name for name, told in known.items() if re.search(r"\b(path|file|directory)\b", told.description, re.I)}
    assert paths - {"input_model_is_text"} <= FILE_ARGUMENTS


@pytest.mark.parametrize("given", [True, False])
def test_another_checkpoint_is_refused(cli: Cli, folder: Path, manifest: Path, tmp_path: Path, given: bool) -> None:
    other = tmp_path / "other.pth" if given else folder / "standin.pth"
    other.write_bytes(b"another")
    result = cli("rebuild", "--check", manifest, *(["--checkpoint", other] if given else []))
    assert result.exit_code == 5
    assert f"{other}: sha256 is " in result.error
    assert "Give that checkpoint with --checkpoint" in result.error


def test_a_missing_checkpoint_is_asked_for(cli: Cli, folder: Path, manifest: Path) -> None:
    (folder / "standin.pth").unlink()
    result = cli("rebuild", "--check", manifest)
    assert result.exit_code == 6
    assert f"{folder / 'standin.pth'}: there is no such checkpoint. Give it with --checkpoint" in result.error


def test_a_manifest_without_a_conversion_has_nothing_to_rebuild(cli: Cli, folder: Path, manifest: Path) -> None:
    with manifests.changed(folder) as data:
        del data["stages"]["export-onnx"]
    result = cli("rebuild", "--check", manifest)
    assert result.exit_code == 11
    assert "has no export-onnx" in result.error
