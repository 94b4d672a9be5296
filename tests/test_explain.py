"""A mismatch says why: the cause in the error, the output, JUnit, the report page; or the first wrong layer, saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import Cli
from faults import Fault, make
from onnx import numpy_helper

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify.causes import find

LAYER = "backbone.layer3.1.conv2"


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


def change_weight(path: Path, name: str, change: Callable[[Any], Any]) -> None:
    model = onnx.load(str(path))
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)).astype(np.float32), name))
    onnx.save(model, str(path))


def with_input(small: ModelCard, folder: Path, **wrong: Any) -> Path:
    """An FP32 IR whose preprocessing is not the card's."""
    place = folder.parent / "wrong"
    place.mkdir()
    return make(Fault("wrong", "IR FP32", preprocessing=wrong), small, folder / "small-standin.onnx", place)


def test_swapped_colours_are_named_everywhere(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    path = with_input(small, folder, color_order="BGR")
    for suffix in (".xml", ".bin"):
        shutil.copy(path.with_suffix(suffix), folder / "FP32" / f"small-standin{suffix}")
    words = "Most likely: red and blue are swapped (with this fault the reference is "
    result = cli("verify", small.folder, "-o", workspace, "--junit", workspace / "junit.xml")
    assert result.exit_code == 9
    assert f". {words}" in result.error
    assert f"IR FP32: {words}" in result.stdout
    suite = ElementTree.parse(workspace / "junit.xml").getroot()
    failures = [failure.text or "" for failure in suite.iter("failure")]
    assert any(words in text for text in failures)

    manifest = json.loads((folder / "manifest.json").read_text())
    rows = {row["backend"]: row for row in manifest["stages"]["verify"]["result"]["comparisons"]}
    assert rows["IR FP32"]["explanation"]["cause"]["place"] == "input"
    assert rows["IR FP32"]["explanation"]["layer"] is None
    assert rows["ONNX"]["explanation"] is None
    assert "red and blue are swapped" in (folder / "report.html").read_text()


def test_a_wrong_weight_names_the_layer_which_is_saved(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    change_weight(folder / "small-standin.onnx", f"{LAYER}.weight", lambda weight: weight[..., ::-1].copy())
    result = cli("verify", small.folder, "-o", workspace, "--json")
    assert result.exit_code == 9
    assert f"No known cause explains it. The first wrong layer is {LAYER} (Conv): " in result.error
    rows = {row["backend"]: row for row in result.json()["stages"][0]["result"]["comparisons"]}
    layer = rows["ONNX"]["explanation"]["layer"]
    assert (layer["layer"], layer["folder"], layer["repeats"]) == (LAYER, "layer-onnx", True)
    assert layer["error_before"]["rms"] < 1e-5 < 1e-2 < layer["error_after"]["rms"]

    saved = folder / "verification" / "layer-onnx"
    found = onnxruntime.InferenceSession(str(saved / "layer.onnx")).run(None, dict(np.load(saved / "inputs.npz")))[0]
    outputs = np.load(saved / "outputs.npz")
    assert np.allclose(found, outputs["found"], atol=1e-5)
    assert not np.allclose(found, outputs["expected"], atol=1e-2)

    change_weight(folder / "small-standin.onnx", f"{LAYER}.weight", lambda weight: weight[..., ::-1].copy())
    assert cli("verify", small.folder, "-o", workspace).exit_code == 0
    assert not saved.exists() or not list(saved.iterdir())


def test_a_file_from_elsewhere_is_explained_too(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere.onnx"
    shutil.copy(folder / "small-standin.onnx", elsewhere)
    change_weight(elsewhere, f"{LAYER}.weight", lambda weight: 1.05 * weight)
    result = cli("verify", small.folder, "-o", workspace, "--onnx", elsewhere, "--save-diff", tmp_path / "diff")
    assert result.exit_code == 9
    assert f"network, {LAYER}: its input is off by" in result.error
    assert (tmp_path / "diff" / "layer-onnx-elsewhere-onnx" / "layer.onnx").is_file()

    path = with_input(small, folder, mean=(0.0, 0.0, 0.0))
    result = cli("verify", small.folder, "-o", workspace, "--ir", path)
    assert "Most likely: the mean is missing" in result.error


def test_files_in_each_others_folders_are_named(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    (folder / "FP32").rename(folder / "other")
    (folder / "FP16").rename(folder / "FP32")
    (folder / "other").rename(folder / "FP16")
    result = cli("verify", small.folder, "-o", workspace)
    assert result.exit_code == 9
    assert "Most likely: the weights are stored in FP16 (the file should have FP32)" in result.error


def test_locate_names_the_layer_next_to_a_cause(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path
) -> None:
    path = with_input(small, folder, mean=(0.0, 0.0, 0.0))
    result = cli("verify", small.folder, "-o", workspace, "--ir", path, "--locate", "--json")
    (row,) = result.json()["stages"][0]["result"]["comparisons"]
    assert row["explanation"]["cause"]["what"] == "the mean is missing"
    assert "preprocessing" in row["explanation"]["layer"]["layer"]


def test_a_search_that_fails_does_not_hide_the_verdict(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(evidence: Any) -> None:
        raise RuntimeError("the network's own code does not like it")

    monkeypatch.setattr(find, "find_cause", refuse)
    change_weight(folder / "small-standin.onnx", f"{LAYER}.weight", np.zeros_like)
    result = cli("verify", small.folder, "-o", workspace)
    assert result.exit_code == 9
    assert "ONNX: the search for the cause ended: the network's own code does not like it" in result.stderr
    assert "ONNX differs from the reference: logits: " in result.error


def test_a_check_that_names_its_cause_is_not_explained(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    model = onnx.load(str(folder / "small-standin.onnx"))
    model.graph.input[0].name = "image"
    for node in model.graph.node:
        node.input[:] = ["image" if name == "input.1" else name for name in node.input]
    onnx.save(model, str(folder / "small-standin.onnx"))
    result = cli("verify", small.folder, "-o", workspace, "--json")
    assert result.exit_code == 9
    assert result.json()["stages"][0]["result"]["comparisons"][0]["explanation"] is None
