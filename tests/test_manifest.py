"""The manifest: which stages run again and which are skipped, and that it records what was made."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import manifests
import pytest
import torch
import yaml
from conftest import Cli, Result, needs_mo
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pspnet_convert import __version__
from pspnet_convert.cards.card import ModelCard
from pspnet_convert.command_line import INTERRUPTED
from pspnet_convert.commands.to_ir.front_ends import find_front_end
from pspnet_convert.manifest import Manifest
from pspnet_convert.manifest_document import MANIFEST_VERSION
from pspnet_convert.runtimes.images import SAMPLES

STAGES = ["download", "export-onnx", "to-ir", "verify"]
RUN_AGAIN = "all stages run again"


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


def skipped(result: Result) -> dict[str, bool]:
    """By stage: was it skipped?"""
    assert result.exit_code == 0, result.stderr
    printed = result.json()
    stages = printed["stages"] if isinstance(printed, dict) else printed
    return {stage["stage"]: stage["skipped"] for stage in stages}


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths if path.name != ".lock"}


def read_manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


# What is done again


def test_a_second_run_does_nothing_and_touches_no_file(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    before = content(folder)
    result = cli("run", small.folder, "-o", workspace, "--json")
    assert skipped(result) == dict.fromkeys(STAGES, True)
    assert result.stderr.splitlines() == [f"{stage}: unchanged" for stage in STAGES]
    assert content(folder) == before
    assert result.json()["verdict"] == "pass"  # remembered


@pytest.mark.parametrize("damage", ["changed", "deleted"])
@pytest.mark.parametrize(
    ("file", "stage"),
    [("standin.pth", "download"), ("FP16/small-standin.xml", "to-ir"), ("FP32/small-standin.bin", "to-ir")],
)
def test_only_the_stage_with_damaged_output_is_done_again(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, file: str, stage: str, damage: str
) -> None:
    good = (folder / file).read_bytes()
    if damage == "deleted":
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(bytes([good[0] ^ 1]) + good[1:])
    result = cli("run", small.folder, "-o", workspace, "--json")
    # The stages after it find the same bytes as before.
    assert skipped(result) == {name: name != stage for name in STAGES}
    assert (folder / file).read_bytes() == good


def test_a_deleted_onnx_is_made_again_to_the_same_bytes(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    good = (folder / "small-standin.onnx").read_bytes()
    (folder / "small-standin.onnx").unlink()
    result = cli("run", small.folder, "-o", workspace, "--json")
    assert skipped(result) == {name: name != "export-onnx" for name in STAGES}
    assert "export-onnx: small-standin.onnx is missing or has changed: made again" in result.stderr
    assert (folder / "small-standin.onnx").read_bytes() == good


@pytest.mark.parametrize(
    "options",
    [
        ["--precision", "FP32"],
        pytest.param(["--mo-arg", "static_shape"], marks=needs_mo),
        pytest.param(["--front-end", "ovc"], marks=needs_mo),
    ],
)
def test_another_option_does_the_stage_again_once(
    cli: Cli, small: ModelCard, workspace: Path, options: list[str]
) -> None:
    command = ["to-ir", small.folder, "-o", workspace, "--json"]
    assert skipped(cli(*command)) == {"to-ir": True}
    assert skipped(cli(*command, *options)) == {"to-ir": False}
    assert skipped(cli(*command, *options)) == {"to-ir": True}
    assert skipped(cli(*command)) == {"to-ir": False}


def test_another_picture_is_verified_once(cli: Cli, small: ModelCard, workspace: Path) -> None:
    photo = Path(__file__).parent.parent / "pspnet_convert" / "data" / "samples" / "chelsea.jpg"
    command = ["verify", small.folder, "-o", workspace, "--images", photo, "--json"]
    assert skipped(cli(*command)) == {"verify": False}
    assert skipped(cli(*command)) == {"verify": True}


def test_another_picture_of_the_cards_dataset_is_verified_once(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path
) -> None:
    card = tmp_path / "card" / "model.yml"
    pictures = card.parent / "voc" / "JPEGImages"
    pictures.mkdir(parents=True)
    samples = ["astronaut.jpg", "chelsea.jpg", "coffee.jpg"]
    picture = Path(shutil.copy(SAMPLES / samples[0], pictures / "one.jpg"))
    data = yaml.safe_load((small.folder / "model.yml").read_text())
    card.write_text(yaml.safe_dump({**data, "dataset": "voc"}))
    command = ["verify", card, "-o", workspace, "--json"]
    assert skipped(cli(*command)) == {"verify": False}
    assert skipped(cli(*command)) == {"verify": True}
    shutil.copy(SAMPLES / samples[1], picture)
    assert skipped(cli(*command)) == {"verify": False}
    verified = json.loads((folder / "manifest.json").read_text())["stages"]["verify"]
    assert [record["file"] for record in verified["inputs"]["images"]] == [*samples, picture.name]
    assert verified["tools"]["pillow"] == version("pillow")


@pytest.mark.parametrize("command", ["to-ir", "verify", "download"])
def test_force_does_it_again(cli: Cli, small: ModelCard, workspace: Path, command: str) -> None:
    assert skipped(cli(command, small.folder, "-o", workspace, "--json")) == {command: True}
    assert skipped(cli(command, small.folder, "-o", workspace, "--json", "--force")) == {command: False}


@pytest.fixture
def changed_card(small: ModelCard, tmp_path: Path) -> Iterator[Path]:
    """The small card in a place of its own, to change."""
    folder = tmp_path / "card"
    folder.mkdir()
    (folder / "standin.pth").symlink_to(small.folder / "standin.pth")
    (folder / "model.yml").write_bytes((small.folder / "model.yml").read_bytes())
    return folder / "model.yml"


def test_only_card_fields_that_affect_the_files_are_a_reason_to_convert_again(
    cli: Cli, workspace: Path, changed_card: Path
) -> None:
    data = yaml.safe_load(changed_card.read_text())
    data.update(description="Better words.", gflops=1.0)
    changed_card.write_text(yaml.safe_dump(data))
    assert skipped(cli("run", changed_card, "-o", workspace, "--json")) == dict.fromkeys(STAGES, True)
    data["classes"][2]["name"] = "velocipede"
    changed_card.write_text(yaml.safe_dump(data))
    assert skipped(cli("to-ir", changed_card, "-o", workspace, "--json")) == {"to-ir": False}


def test_a_stage_made_with_another_release_is_done_again(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    data = read_manifest(folder)
    assert data["stages"]["to-ir"]["tools"]["openvino"] == version("openvino")
    data["stages"]["to-ir"]["tools"]["openvino"] = "2023.0"
    (folder / "manifest.json").write_text(json.dumps(data))
    assert skipped(cli("to-ir", small.folder, "-o", workspace, "--json")) == {"to-ir": False}


# A file that is no manifest


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"manifest_version": 4, "stages": {"to-ir": {}}}',
        b'{"manifest_version": 4, "stages": {"to-ir": {"outputs": [{"path": "x"}]}}}',
        b'{"manifest_version": 4, "stages": [1]}',
    ],
)
def test_garbage_is_ignored_with_a_warning_and_replaced(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, garbage: bytes
) -> None:
    (folder / "manifest.json").write_bytes(garbage)
    result = cli("download", small.folder, "-o", workspace, "--json")
    assert result.exit_code == 0
    assert f"{folder / 'manifest.json'}: " in result.stderr
    assert RUN_AGAIN in result.stderr
    assert list(read_manifest(folder)["stages"]) == ["download"]


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("export-onnx", {"options": {}}),
        ("to-ir", {"seconds": None}),
        ("to-ir", {"inputs": None}),
        ("verify", {"result": {"verdict": "pass"}}),
    ],
)
def test_a_damaged_record_is_ignored_and_the_stages_run_again(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, stage: str, change: dict[str, Any]
) -> None:
    with manifests.changed(folder) as data:
        data["stages"][stage].update(change)
    picture = workspace / "picture.png"
    Image.new("RGB", (64, 72), (9, 99, 200)).save(picture)
    result = cli("segment", picture, "--model", small.folder, "-o", workspace)  # an IR without a record
    assert result.exit_code == 0, result.stderr
    assert f"{folder / 'manifest.json'}: is no manifest of this release: stages.{stage}." in result.stderr
    assert RUN_AGAIN in result.stderr
    assert skipped(cli("run", small.folder, "-o", workspace, "--json"))["to-ir"] is False
    assert "is no manifest" not in cli("report", small.folder, "-o", workspace).stderr


def test_a_download_keeps_its_source_whatever_the_tools_version(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    before = read_manifest(folder)["stages"]["download"]
    assert before["tools"] == {}
    assert before["result"]["source"] is not None
    with manifests.changed(folder) as data:
        for stage in ("export-onnx", "to-ir", "verify"):
            data["stages"][stage]["tools"]["pspnet-convert"] = "0.1.0"
    result = cli("run", small.folder, "-o", workspace, "--json")
    assert skipped(result) == {"download": True, "export-onnx": False, "to-ir": False, "verify": False}
    assert "export-onnx: was done with pspnet-convert 0.1.0, and runs again" in result.stderr
    assert read_manifest(folder)["stages"]["download"] == before


def test_after_a_lost_manifest_the_stages_run_again(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    (folder / "manifest.json").write_text("lost")
    assert skipped(cli("to-ir", small.folder, "-o", workspace, "--json")) == {"to-ir": False}
    assert list(read_manifest(folder)["stages"]) == ["to-ir"]


def test_a_manifest_of_another_version_is_ignored(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    data = read_manifest(folder)
    data["manifest_version"] = MANIFEST_VERSION + 1
    (folder / "manifest.json").write_text(json.dumps(data))
    result = cli("to-ir", small.folder, "-o", workspace, "--json")
    assert f"manifest.json: is of version {MANIFEST_VERSION + 1}, not {MANIFEST_VERSION}: {RUN_AGAIN}" in result.stderr
    assert skipped(result) == {"to-ir": False}
    assert read_manifest(folder)["manifest_version"] == MANIFEST_VERSION


KEYS = ["outputs", "inputs", "options", "tools", "file", "to-ir"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
)


@given(stages=JSON, number=st.just(MANIFEST_VERSION) | JSON)
def test_any_json_is_stages_or_none(
    tmp_path_factory: pytest.TempPathFactory, small: ModelCard, stages: object, number: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "manifest.json"
    path.write_text(json.dumps({"manifest_version": number, "stages": stages}))
    assert set(Manifest(path, small).stages) <= set(stages if isinstance(stages, dict) else [])


# What is removed from it


@pytest.mark.parametrize(
    ("file", "left"),
    [
        ("standin.pth", ["to-ir"]),
        ("small-standin.onnx", ["download"]),
        ("FP16/small-standin.bin", ["download", "export-onnx"]),
        ("another", STAGES),
    ],
)
def test_a_file_about_to_be_replaced_is_dropped_from_the_manifest(
    small: ModelCard, folder: Path, file: str, left: list[str]
) -> None:
    manifest = Manifest(folder / "manifest.json", small)
    manifest.drop_stages_using([{"file": file, "sha256": "0" * 64, "size": 1}])
    assert list(manifest.stages) == left
    assert list(read_manifest(folder)["stages"]) == left


def test_a_file_about_to_be_replaced_by_the_same_bytes_stays_in_the_manifest(small: ModelCard, folder: Path) -> None:
    before = content(folder)
    manifest = Manifest(folder / "manifest.json", small)
    for stage in read_manifest(folder)["stages"].values():
        manifest.drop_stages_using(stage["outputs"])
    assert list(manifest.stages) == STAGES
    assert content(folder) == before


@pytest.mark.parametrize(
    ("command", "left"),
    [
        ("export-onnx --no-fold-pyramid", STAGES[:1]),
        pytest.param("to-ir --mo-arg static_shape", STAGES[:2], marks=needs_mo),
    ],
)
def test_a_new_file_is_in_the_manifest_only_after_it_is_in_place(
    cli: Cli,
    small: ModelCard,
    workspace: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    left: object,
) -> None:
    real = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if target.name != "manifest.json" and ".making-" not in str(target):
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    name, *options = command.split()
    assert cli(name, small.folder, "-o", workspace, *options).exit_code == INTERRUPTED
    assert list(read_manifest(folder)["stages"]) == left


# What it says


def test_every_file_has_its_digest_and_size(small_run: Path) -> None:
    folder = small_run / "public" / "small-standin"
    stages = read_manifest(folder)["stages"]
    assert list(stages) == STAGES
    listed = [output for stage in stages.values() for output in stage["outputs"]]
    for record in [*listed, *stages["verify"]["inputs"]["models"], stages["to-ir"]["inputs"]["onnx"]]:
        data = (folder / record["file"]).read_bytes()
        assert record["sha256"] == hashlib.sha256(data).hexdigest()
        assert record["size"] == len(data)
    made = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {record["file"] for record in listed} == made - {"manifest.json", "report.html", ".lock"}


def test_the_tool_the_card_and_the_libraries_are_named(small: ModelCard, small_run: Path) -> None:
    data = read_manifest(small_run / "public" / "small-standin")
    assert data["manifest_version"] == MANIFEST_VERSION
    assert data["tool"] == {"name": "pspnet-convert", "version": __version__}
    assert data["model"] == small.model_dump(mode="json", exclude_none=True)
    tools = {stage: set(record["tools"]) for stage, record in data["stages"].items()}
    assert {"torch", "mmsegmentation", "onnx"} <= tools["export-onnx"]
    assert tools["to-ir"] == {"pspnet-convert", *find_front_end("auto", {}).tools}
    assert {"torch", "onnxruntime", "openvino"} <= tools["verify"]
    assert data["stages"]["export-onnx"]["tools"]["torch"] == version("torch")


def test_a_checkpoint_that_is_not_the_cards_is_recorded_as_such(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path
) -> None:
    assert read_manifest(folder)["stages"]["verify"]["inputs"]["checkpoint"]["is_the_cards"] is True
    content = torch.load(small.folder / "standin.pth", weights_only=True)
    content["meta"]["seed"] = 1
    own = tmp_path / "own.pth"
    torch.save(content, own)
    before = read_manifest(folder)
    refused = cli("verify", small.folder, "-o", workspace, "--checkpoint", own)
    assert refused.exit_code == 5
    assert "own.pth" in refused.error
    assert read_manifest(folder) == before
    result = cli("verify", small.folder, "-o", workspace, "--checkpoint", own, "--allow-unknown-checkpoint")
    assert result.exit_code == 0, result.stderr
    assert read_manifest(folder)["stages"]["verify"]["inputs"]["checkpoint"] == {
        "file": "own.pth",
        "sha256": hashlib.sha256(own.read_bytes()).hexdigest(),
        "size": own.stat().st_size,
        "is_the_cards": False,
    }


def strings(data: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield place, key
            yield from strings(value, f"{place}/{key}")
    elif isinstance(data, list):
        for value in data:
            yield from strings(value, place)
    elif isinstance(data, str):
        yield place, data


def test_no_path_of_the_machine_is_in_it(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    photo = Path(__file__).parent.parent / "pspnet_convert" / "data" / "samples" / "chelsea.jpg"
    assert cli("verify", small.folder, "-o", workspace, "--images", photo).exit_code == 0
    found = list(strings(read_manifest(folder)))
    assert ("/stages/verify/inputs/images/file", "chelsea.jpg") in found
    private = (str(workspace), str(small.folder), str(Path.home()), str(Path(__file__).parent.parent))
    assert [(p, t) for p, t in found if t.startswith(("/", "file:")) or any(path in t for path in private)] == []
