"""The published schema accepts the manifests that the tool writes, and no others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import manifests
import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import voc
from conftest import LENIENT, Cli, needs_mo
from jsonschema import Draft202012Validator, ValidationError

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import shipped
from pspnet_convert.errors import ArtifactError
from pspnet_convert.manifest_document import MANIFEST_VERSION, json_schema, read_manifest
from pspnet_convert.runtimes.images import SAMPLES

SCHEMA = json.loads((shipped("schemas") / "manifest.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


def assert_valid(folder: Path) -> None:
    data = manifests.read(folder)
    Draft202012Validator(SCHEMA).validate(data)
    document = read_manifest(folder / "manifest.json")
    # Reading loses nothing.
    assert document.model_dump(mode="json", exclude_none=True)["model"] == data["model"]
    assert document.model_dump(mode="json", exclude_unset=True)["stages"] == data["stages"]


def test_the_file_is_what_the_types_say() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json_schema() == SCHEMA, "python -m pspnet_convert.manifest_document > schemas/manifest.schema.json"
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["properties"]["manifest_version"]["const"] == MANIFEST_VERSION


def test_a_runs_manifest_is_valid(small_run: Path) -> None:
    assert_valid(small_run / "public" / "small-standin")


@pytest.mark.parametrize("front_end", [pytest.param(["mo", "--mo-arg", "static_shape"], marks=needs_mo), ["ovc"]])
def test_a_manifest_with_a_users_picture_a_front_end_and_figures_at_default_precision_is_valid(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, front_end: list[str]
) -> None:
    photo = Path(shutil.copy(SAMPLES / "chelsea.jpg", workspace / "..photo of a cat.jpg"))
    assert cli("to-ir", small.folder, "-o", workspace, "--front-end", *front_end).exit_code == 0
    command = ["verify", small.folder, "-o", workspace, "--images", photo, "--at-default-precision"]
    assert cli(*command).exit_code == 0
    assert_valid(folder)


def test_the_manifest_of_a_failed_verification_is_valid(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    xml = folder / "FP32" / "small-standin.xml"
    xml.write_text(xml.read_text().replace("segmentation_map", "another"))
    model = onnx.load(folder / "small-standin.onnx")
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "decode_head.conv_seg.bias"]
    shifted = onnx.numpy_helper.to_array(bias) + np.float32([0, 100, 0, 0, np.nan])
    bias.CopyFrom(onnx.numpy_helper.from_array(shifted, bias.name))
    onnx.save(model, folder / "small-standin.onnx")
    assert cli("verify", small.folder, "-o", workspace).exit_code == 9
    result = manifests.read(folder)["stages"]["verify"]["result"]
    assert result["verdict"] == "mismatch"
    assert result["comparisons"][0]["relative_error"]["rms"] is None
    assert result["comparisons"][0]["unexplained"]
    assert_valid(folder)


def test_the_manifest_of_an_evaluation_is_valid(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    dataset = voc.write(workspace / "voc", small, [(72, 64), (40, 90)])
    done = cli("evaluate", small.folder, "-o", workspace, "--dataset", dataset)
    assert done.exit_code == 0, done.stderr
    assert "evaluate" in manifests.read(folder)["stages"]
    assert_valid(folder)


def test_the_manifest_of_an_int8_model_is_valid(cli: Cli, small: ModelCard, quantized: Path, tmp_path: Path) -> None:
    workspace = shutil.copytree(quantized, tmp_path / "copied")
    dataset = voc.write(tmp_path / "voc", small, [(72, 64)])
    measured = ["--dataset", dataset, "--max-drop", 100]
    done = cli("quantize", small.folder, "-o", workspace, *LENIENT, *measured)
    assert done.exit_code == 0, done.stderr
    folder = workspace / "public" / "small-standin"
    assert {"quantize", "verify-int8", "evaluate-int8"} <= set(manifests.read(folder)["stages"])
    assert_valid(folder)


def put(*path: Any) -> Callable[[Any], None]:
    """Set the value at a path; the last argument is the new value."""
    *way, last, value = path

    def change(data: Any) -> None:
        for key in way:
            data = data[key]
        data[last] = value

    return change


def drop(*path: Any) -> Callable[[Any], None]:
    *way, last = path

    def change(data: Any) -> None:
        for key in way:
            data = data[key]
        del data[last]

    return change


MUTATIONS = {
    "another version": put("manifest_version", MANIFEST_VERSION + 1),
    "no version": drop("manifest_version"),
    "no model": drop("model"),
    "a model without a checkpoint": drop("model", "files"),
    "an unknown key": put("extra", 1),
    "an unknown stage": put("stages", "train", {}),
    "a stage that is null": put("stages", "verify", None),
    "a stage without outputs": drop("stages", "to-ir", "outputs"),
    "an unknown key in a stage": put("stages", "to-ir", "extra", 1),
    "a digest that is none": put("stages", "to-ir", "outputs", 0, "sha256", "0" * 63),
    "a digest in capitals": put("stages", "download", "inputs", "card", "sha256", "A" * 64),
    "an output without a size": drop("stages", "export-onnx", "outputs", 0, "size"),
    "a negative size": put("stages", "export-onnx", "outputs", 0, "size", -1),
    "an absolute path": put("stages", "to-ir", "outputs", 0, "file", "/etc/passwd"),
    "a path that leaves": put("stages", "to-ir", "outputs", 0, "file", "FP32/../../x.bin"),
    "an option that is missing": drop("stages", "export-onnx", "options", "opset"),
    "an option of another type": put("stages", "export-onnx", "options", "label_type", "int4"),
    "a shape of three": put("stages", "export-onnx", "options", "input_shape", [1, 3, 72]),
    "a batch of none": put("stages", "export-onnx", "options", "input_shape", [0, 3, 72, 64]),
    "a huge batch": put("stages", "export-onnx", "options", "input_shape", [10**9, 3, 72, 64]),
    "a number type that there is not": put("stages", "to-ir", "options", "input_type", "f64"),
    "no layout": drop("stages", "to-ir", "options", "input_layout"),
    "an unknown precision": put("stages", "to-ir", "options", "precisions", ["FP8"]),
    "an unknown verdict": put("stages", "verify", "result", "verdict", "probably"),
    "a local time": put("stages", "verify", "finished", "2026-01-01T00:00:00"),
    "a tool without a version": put("stages", "verify", "tools", "torch", None),
}


@pytest.mark.parametrize("change", MUTATIONS.values(), ids=MUTATIONS)
def test_a_mutated_manifest_is_refused_by_schema_and_reader(
    small_run: Path, tmp_path: Path, change: Callable[[Any], None]
) -> None:
    data = manifests.read(small_run / "public" / "small-standin")
    change(data)
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(data)
    (tmp_path / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match=r"is no manifest of this release"):
        read_manifest(tmp_path / "manifest.json")


@pytest.mark.parametrize("command", [["rebuild", "--check"], ["bundle"]])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "manifest.json: cannot be read: No such file or directory. Run `pspnet-convert run` first"),
        (b"", "manifest.json: is no manifest of this release: Invalid JSON"),
        (b"\xff{}", "manifest.json: is no manifest of this release: Invalid JSON"),
        (b"[]", "manifest.json: is no manifest of this release: "),
        (b'{"manifest_version": 1}', "manifest.json: is no manifest of this release: manifest_version: "),
    ],
)
def test_a_file_that_is_no_manifest_is_refused_in_one_line(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, command: list[str], content: Any, message: str
) -> None:
    path = folder / "manifest.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    given = [path] if command[0] == "rebuild" else [small.folder, "--output-dir", workspace]
    result = cli(*command, *given)
    assert result.exit_code == 11
    assert message in result.error
