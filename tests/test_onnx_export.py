"""The exported graph: the card's contract, exact pooling, the same bytes each time, every supported opset."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Cli, slow, write_small_card
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.benchmark.flops import gflops
from pspnet_convert.commands.export_onnx import write_onnx
from pspnet_convert.commands.export_onnx.options import OPSETS
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.network import PSPNet, build_network


@pytest.fixture(scope="module")
def reference(small: ModelCard) -> PSPNet:
    return build_network(small, load_checkpoint(small.folder / small.checkpoint.name, small))


@pytest.fixture
def exported(small_run: Path) -> Path:
    return small_run / "public" / "small-standin" / "small-standin.onnx"


def image(height: int = 72, width: int = 64) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((1, 3, height, width), np.float32)


def label_map(path: Path, values: NDArray[np.float32]) -> NDArray[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["segmentation_map"], {"input.1": values})[0]


def expected_labels(reference: PSPNet, values: NDArray[np.float32]) -> NDArray[Any]:
    return reference(torch.from_numpy(values)).argmax(dim=1, keepdim=True).numpy()


def test_names_shapes_and_types_are_the_cards(exported: Path) -> None:
    graph = onnx.load(str(exported)).graph
    (given,), (found,) = graph.input, graph.output
    assert given.name == "input.1"
    assert given.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [d.dim_value for d in given.type.tensor_type.shape.dim] == [1, 3, 72, 64]
    assert found.name == "segmentation_map"
    assert found.type.tensor_type.elem_type == onnx.TensorProto.INT64
    assert [d.dim_value for d in found.type.tensor_type.shape.dim] == [1, 1, 72, 64]
    onnx.checker.check_model(str(exported), full_check=True)


def test_the_graph_is_clean(exported: Path) -> None:
    graph = onnx.load(str(exported)).graph
    kinds = {node.op_type for node in graph.node}
    assert "Gather" not in kinds
    assert not kinds & {"BatchNormalization", "Identity", "Dropout", "AveragePool", "Cast"}
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)
    assert "backbone.layer1.0.conv1.Conv" in names
    assert "decode_head.conv_seg.Conv" in names
    assert {name.split(".")[0] for name in names} == {"backbone", "decode_head", "logits"}
    assert not any(tensor.name.startswith("network.") for tensor in graph.initializer)
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used
    weights = [t.raw_data for t in graph.initializer if len(t.raw_data) > 64]
    assert len(set(weights)) == len(weights)


def test_provenance_is_in_the_file_and_no_path_is(exported: Path, small: ModelCard) -> None:
    model = onnx.load(str(exported))
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["name"] == "small-standin"
    assert properties["checkpoint_sha256"] == small.checkpoint.sha256
    assert properties["classes"] == "background,aeroplane,bicycle,bird,boat"
    assert properties["tool"].startswith("pspnet-convert ")
    assert b"site-packages" not in exported.read_bytes()
    assert model.producer_version == torch.__version__.partition("+")[0]  # without the build
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_labels_are_the_references(exported: Path, reference: PSPNet) -> None:
    expected = expected_labels(reference, image())
    assert len(np.unique(expected)) > 1
    assert (label_map(exported, image()) == expected).mean() > 0.999


@pytest.mark.parametrize("opset", [OPSETS[0], *map(slow, OPSETS[1:-1]), OPSETS[-1]])
def test_every_supported_opset_runs_and_converts(
    cli: Cli, small: ModelCard, workspace: Path, reference: PSPNet, opset: int
) -> None:
    result = cli("run", small.folder, "-o", workspace, "--opset", opset, "--precision", "FP32")
    assert result.exit_code == 0, result.stderr
    path = workspace / "public" / "small-standin" / "small-standin.onnx"
    assert [entry.version for entry in onnx.load(str(path)).opset_import if entry.domain == ""] == [opset]


@pytest.mark.parametrize("opset", [11, 17, 24])
def test_another_opset_is_refused(cli: Cli, small: ModelCard, workspace: Path, opset: int) -> None:
    path = workspace / "public" / "small-standin" / "small-standin.onnx"
    before = path.read_bytes()
    result = cli("export-onnx", small.folder, "-o", workspace, "--opset", opset)
    assert result.exit_code == 7
    assert f"opset {opset} is not supported" in result.error
    assert path.read_bytes() == before


@pytest.mark.parametrize(("height", "width"), [slow(64, 64), slow(104, 88), (97, 65)])
def test_any_input_shape(
    cli: Cli, small: ModelCard, workspace: Path, reference: PSPNet, height: int, width: int
) -> None:
    result = cli("run", small.folder, "-o", workspace, "--input-shape", f"1,3,{height},{width}")
    assert result.exit_code == 0, result.stderr
    path = workspace / "public" / "small-standin" / "small-standin.onnx"
    values = image(height, width)
    found = label_map(path, values)
    assert found.shape == (1, 1, height, width)
    assert (found == expected_labels(reference, values)).mean() > 0.999


def test_int32_label_map(cli: Cli, small: ModelCard, workspace: Path) -> None:
    result = cli("run", small.folder, "-o", workspace, "--label-type", "int32")
    assert result.exit_code == 0, result.stderr
    path = workspace / "public" / "small-standin" / "small-standin.onnx"
    assert label_map(path, image()).dtype == np.int32


def test_the_graph_as_written_passes_too_and_is_more_work(
    cli: Cli, small: ModelCard, workspace: Path, exported: Path
) -> None:
    result = cli("run", small.folder, "-o", workspace, "--no-fold-pyramid")
    assert result.exit_code == 0, result.stderr
    plain = workspace / "public" / "small-standin" / "small-standin.onnx"
    resizes = [[node.op_type for node in onnx.load(str(path)).graph.node].count("Resize") for path in (plain, exported)]
    assert resizes == [5, 1]
    assert gflops(exported) < gflops(plain)


def test_the_same_checkpoint_gives_the_same_bytes(cli: Cli, small: ModelCard, exported: Path, tmp_path: Path) -> None:
    assert cli("download", small.folder, "-o", tmp_path).exit_code == 0
    assert cli("export-onnx", small.folder, "-o", tmp_path).exit_code == 0
    again = tmp_path / "public" / "small-standin" / "small-standin.onnx"
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(exported.read_bytes()).digest()


def test_a_network_that_is_too_large_for_onnx_is_refused_before_the_work(
    cli: Cli, small: ModelCard, workspace: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = exported.read_bytes()
    monkeypatch.setattr(write_onnx, "LARGEST_ONNX", 1_000_000)
    monkeypatch.setattr(write_onnx, "rewritten_copy", None)
    result = cli("export-onnx", small.folder, "-o", workspace, "--label-type", "int32")
    assert result.exit_code == 7
    assert "GB, and an ONNX file can have 0.00 GB" in result.error
    assert "fewer `channels` in the decode head" in result.error
    assert exported.read_bytes() == before


@pytest.mark.slow
def test_unet_takes_multiples_of_16_however_large_and_refuses_other_sizes(cli: Cli, tmp_path: Path) -> None:
    from make_standin_checkpoint import make_standin

    overrides = {
        "model.backbone.base_channels": 8,
        "model.decode_head.in_channels": 8,
        "model.decode_head.channels": 8,
        "model.decode_head.num_classes": 5,
        "model.auxiliary_head.in_channels": 16,
        "model.auxiliary_head.channels": 8,
        "model.auxiliary_head.num_classes": 5,
    }
    card = write_small_card(
        tmp_path / "card",
        config="unet/unet-s5-d16_pspnet_4xb4-40k_drive-64x64.py",
        config_overrides=overrides,
        input={**find_card().input.model_dump(mode="json"), "shape": [1, 3, 64, 64]},
        output={**find_card().output.model_dump(mode="json"), "shape": [1, 1, 64, 64], "values": [0, 4]},
    )
    standin = make_standin(load_card(card), tmp_path / "standin")
    # Verification also runs smaller pictures. Their sides are multiples of 16 too.
    done = cli("run", standin, "-o", tmp_path, "--input-shape", "1,3,176,208")
    assert done.exit_code == 0, done.stderr
    # Its head pools a map as large as the picture: a million cells.
    for shape in ("1,3,592,576", "1,3,1024,1024"):
        large = cli("run", standin, "-o", tmp_path, "--input-shape", shape)
        assert large.exit_code == 0, large.stderr
    result = cli("export-onnx", standin, "-o", tmp_path, "--input-shape", "1,3,100,96")
    assert result.exit_code == 7
    assert "does not export at [1, 3, 100, 96]" in result.error and "16" in result.error
