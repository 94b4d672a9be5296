"""ONNX and IR files made to do harm: refused with exit code 11, nothing outside them read, no memory filled."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ArtifactError
from pspnet_convert.runtimes.backends import OnnxBackend, OpenVinoBackend
from pspnet_convert.runtimes.io_signature import read_onnx

SHAPE = (1, 3, 72, 64)
IMAGE = np.zeros((*SHAPE[2:], 3), np.uint8)


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


@pytest.fixture
def onnx_path(folder: Path) -> Path:
    return folder / "small-standin.onnx"


@pytest.fixture
def xml(folder: Path) -> Path:
    return folder / "FP32" / "small-standin.xml"


# ONNX


def outside() -> TensorProto:
    tensor = TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../../../../../../etc/passwd")
    return tensor


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["outside"], value=tensor)


def in_subgraph(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([constant(outside())], "inner", [], [helper.make_tensor_value_info("outside", 1, [1])])
    condition = helper.make_tensor("condition", TensorProto.BOOL, [], [True])
    model.graph.node.insert(0, helper.make_node("Constant", [], ["condition"], value=condition))
    model.graph.node.insert(1, helper.make_node("If", ["condition"], ["x"], then_branch=inner, else_branch=inner))


def in_list(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["outside"])
    node.attribute.append(helper.make_attribute("values", [outside(), outside()]))
    model.graph.node.insert(0, node)


def in_function(model: onnx.ModelProto) -> None:
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("local", "f", [], ["outside"], [constant(outside())], opsets))


def in_training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.initializer.append(outside())


def in_sparse_values(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(outside())


def sparse_of_terabytes(model: onnx.ModelProto) -> None:
    value = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    index = helper.make_tensor("index", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(value, index, [2**30, 2**30]))


@pytest.mark.parametrize(
    ("hide", "words"),
    [
        (lambda m: m.graph.initializer.append(outside()), "has weights in other files"),
        (lambda m: m.graph.node.insert(0, constant(outside())), "has weights in other files"),
        (in_list, "has weights in other files"),
        (in_subgraph, "has weights in other files"),
        (in_function, "has weights in other files"),
        (in_training, "has weights in other files"),
        (in_sparse_values, "has sparse weights"),
        (sparse_of_terabytes, "has sparse weights"),
    ],
    ids=["initializer", "attribute", "list", "subgraph", "function", "training", "sparse", "huge sparse"],
)
def test_no_tensor_comes_from_outside_the_file_or_from_nothing(
    small_run: Path, tmp_path: Path, hide: Callable[[onnx.ModelProto], object], words: str
) -> None:
    model = onnx.load(next(small_run.rglob("*.onnx")))
    hide(model)
    path = tmp_path / "hostile.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=words):
        read_onnx(path)


@pytest.mark.parametrize("command", ["to-ir", "verify"])
def test_a_path_out_of_the_folder_is_refused_by_each_command(
    cli: Cli, small: ModelCard, workspace: Path, onnx_path: Path, command: str
) -> None:
    model = onnx.load(onnx_path)
    model.graph.node.insert(0, constant(outside()))
    onnx_path.write_bytes(model.SerializeToString())
    result = cli(command, small.folder, "-o", workspace)
    assert result.exit_code == 11
    assert "has weights in other files, which this tool does not read" in result.error


def circle(model: onnx.ModelProto) -> None:
    model.graph.node[-1].input[0] = model.graph.node[-1].output[0]


def made_twice(model: onnx.ModelProto) -> None:
    again = helper.make_node("Identity", ["segmentation_map"], ["segmentation_map"])
    model.graph.node.append(again)


def larger_than_the_file(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [2**40, 2**40]


def of_no_known_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 1000


def named_by_an_escape(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "\x1b[2J"


def larger_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[3].dim_value = 2**60


@pytest.mark.parametrize(
    "damage", [circle, made_twice, larger_than_the_file, of_no_known_type, named_by_an_escape, larger_output]
)
def test_a_graph_that_cannot_be_run_is_refused(
    small: ModelCard, small_run: Path, tmp_path: Path, damage: Callable[[onnx.ModelProto], None]
) -> None:
    model = onnx.load(next(small_run.rglob("*.onnx")))
    damage(model)
    path = tmp_path / "hostile.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError) as caught:
        list(OnnxBackend(path, small, SHAPE).run([IMAGE]))
    assert str(caught.value).isprintable()


def test_a_graph_that_fails_while_it_runs(cli: Cli, small: ModelCard, workspace: Path, onnx_path: Path) -> None:
    model = onnx.load(onnx_path)
    (weight,) = [t for t in model.graph.initializer if t.name == "backbone.layer4.0.conv1.weight"]
    weight.dims[:2] = reversed(weight.dims[:2])
    onnx_path.write_bytes(model.SerializeToString())
    result = cli("verify", small.folder, "-o", workspace)
    assert result.exit_code == 11
    assert "small-standin.onnx: ONNX Runtime cannot run it: " in result.error


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cut") / "cut.onnx"


@given(share=st.floats(0, 1, exclude_max=True), near=st.sampled_from([1000, 50_000, None]))
def test_an_onnx_cut_anywhere_is_refused(small: ModelCard, small_run: Path, cut: Path, share: float, near: int) -> None:
    data = next(small_run.rglob("*.onnx")).read_bytes()
    cut.write_bytes(data[: int(share * (near or len(data)))])
    with pytest.raises(ArtifactError):
        list(OnnxBackend(cut, small, SHAPE).run([IMAGE]))


# IR


def edited(xml: Path, old: str, new: str) -> None:
    text, count = re.subn(old, new, xml.read_text(encoding="utf-8"), count=1)
    assert count == 1
    xml.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r'offset="\d+" size', 'offset="99999999" size'),
        (r'offset="\d+" size', 'offset="18446744073709551615" size'),
        (r'offset="\d+" size', 'offset="-8" size'),
        (r'size="\d+"', 'size="9223372036854775807"'),
        (r'size="\d+"', 'size="1"'),
        (r'shape="[\d, ]+" offset', 'shape="4611686018427387904, 4" offset'),
        (r'shape="[\d, ]+" offset', 'shape="1000000, 1000000" offset'),
        (r'shape="1,3,72,64"', 'shape="1,3,1152921504606846976,64"'),
        (r'element_type="f32"', 'element_type="string"'),
        (r'type="Convolution"', 'type="Nonsense"'),
        (r'from-layer="\d+"', 'from-layer="99999"'),
        (r'<net name="[^"]*"', '<nat name="small"'),
        (r"<layers>", '<layers><layer id="0" name="again" type="Parameter" version="opset1"/>'),
    ],
)
def test_an_ir_with_wrong_numbers_is_refused(small: ModelCard, xml: Path, old: str, new: str) -> None:
    edited(xml, old, new)
    with pytest.raises(ArtifactError) as caught:
        list(OpenVinoBackend(xml, small, SHAPE).run([IMAGE]))
    assert str(caught.value).isprintable()


def test_weights_past_the_end_of_the_bin(cli: Cli, small: ModelCard, workspace: Path, xml: Path) -> None:
    weights = xml.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-100])
    result = cli("verify", small.folder, "-o", workspace)
    assert result.exit_code == 11
    assert "Incorrect weights in bin file!" in result.error


def test_entities_of_an_xml_are_not_expanded(small: ModelCard, xml: Path) -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 30))
    edited(xml, "<net", f'<!DOCTYPE net [<!ENTITY l0 "ha">{laughs}<!ENTITY f SYSTEM "file:///etc/passwd">]>\n<net')
    edited(xml, r'<layer id="0" name="[^"]*"', '<layer id="0" name="&amp;l29;&l29;&f;"')
    with pytest.raises(ArtifactError, match="does not begin with <net>"):
        list(OpenVinoBackend(xml, small, SHAPE).run([IMAGE]))


@pytest.mark.parametrize(
    "data", [b"", b"<net>", b"\xff\xfe<\x00n\x00e\x00t\x00", b"<net name='\xff'/>", b"<net" * 10_000, bytes(1000)]
)
def test_what_is_no_ir_is_refused(small: ModelCard, xml: Path, data: bytes) -> None:
    xml.write_bytes(data)
    with pytest.raises(ArtifactError, match="is not an IR that OpenVINO reads"):
        list(OpenVinoBackend(xml, small, SHAPE).run([IMAGE]))


def test_an_onnx_with_the_file_name_of_an_ir_is_not_read(small: ModelCard, onnx_path: Path, xml: Path) -> None:
    xml.write_bytes(onnx_path.read_bytes())
    assert openvino.Core().read_model(str(onnx_path)).outputs  # which OpenVINO would do
    with pytest.raises(ArtifactError, match="is not an IR that OpenVINO reads"):
        list(OpenVinoBackend(xml, small, SHAPE).run([IMAGE]))
