"""What is changed in a graph that NNCF has quantized gives the same answers, and fewer conversions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.quantize import int8_graph
from pspnet_convert.runtimes.openvino_install import operations

SIDES = st.integers(1, 12)


@given(height=SIDES, made=st.integers(1, 40), align_corners=st.booleans(), seed=st.integers(0, 99))
def test_the_matrix_of_a_resize_is_torchs(height: int, made: int, align_corners: bool, seed: int) -> None:
    column = np.random.default_rng(seed).normal(size=height)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(column)[None, None, :, None], size=(made, 1), mode="bilinear", align_corners=align_corners
    )
    found = int8_graph.bilinear(height, made, align_corners) @ column
    np.testing.assert_allclose(found, expected.numpy().ravel(), atol=1e-5)


def run(model: openvino.Model, given: NDArray[Any]) -> NDArray[Any]:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled([given])[0])


def kinds(model: openvino.Model) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


def model_of(shape: list[int], build: Callable[[Any], Any]) -> openvino.Model:
    image = operations().parameter(shape, np.float32)
    return openvino.Model([operations().result(build(image))], [image])


def changed(model: openvino.Model, change: Callable[[openvino.Model], None], given: NDArray[Any]) -> NDArray[Any]:
    """The answer after the change, which must be the one before."""
    before = run(model.clone(), given)
    change(model)
    model.validate_nodes_and_infer_types()
    np.testing.assert_allclose(run(model, given), before, rtol=1e-5, atol=1e-5)
    return before


def quantized(value: Any, high: float = 2.55) -> Any:
    limits = [operations().constant(np.float32(limit)) for limit in (0, high, 0, high)]
    return operations().fake_quantize(value, *limits, 256)


@pytest.mark.parametrize("mode", ["half_pixel", "align_corners", "pytorch_half_pixel"])
def test_a_resize_becomes_products(mode: str) -> None:
    def resized(image: Any) -> Any:
        sizes = operations().constant(np.array([2, 3, 20, 31], np.int64))
        return operations().interpolate(
            image, sizes, "linear_onnx", "sizes", coordinate_transformation_mode=mode
        )  # fmt: skip

    model = model_of([2, 3, 5, 7], resized)
    given_ = np.random.default_rng(0).normal(size=(2, 3, 5, 7)).astype(np.float32)
    changed(model, int8_graph.resize_by_products, given_)
    assert "Interpolate" not in kinds(model)
    assert kinds(model).count("MatMul") == 2


@pytest.mark.parametrize(("mode", "columns"), [("nearest", 7), ("linear_onnx", 129)])
def test_another_resize_stays(mode: str, columns: int) -> None:
    sizes = operations().constant(np.array([1, 3, 10, 2 * columns], np.int64))
    model = model_of([1, 3, 5, columns], lambda image: operations().interpolate(image, sizes, mode, "sizes"))
    int8_graph.resize_by_products(model)
    assert "Interpolate" in kinds(model)


def pooled(weights: NDArray[np.float32], high: float = 2.55) -> Callable[[Any], Any]:
    return lambda image: operations().matmul(quantized(image, high), operations().constant(weights), False, True)


MEANS = np.array([[1 / 3, 1 / 3, 1 / 3, 0, 0], [0, 0, 0.5, 0.5, 0], [0, 0, 0, 0, 1]], np.float32)


def test_means_are_computed_in_integers() -> None:
    model = model_of([1, 4, 6, 5], pooled(MEANS))
    given_ = np.random.default_rng(0).uniform(0, 2.55, (1, 4, 6, 5)).astype(np.float32)
    changed(model, int8_graph.pool_in_integers, given_)
    (product,) = (node for node in model.get_ops() if node.get_type_name() == "MatMul")
    chosen = product.input_value(1).get_node()
    assert chosen.get_type_name() == "FakeQuantize"
    assert set(np.unique(chosen.input_value(0).get_node().data)) == {0, 1}


def test_other_products_stay() -> None:
    """With several weights in a row, INT8 would round them."""
    model = model_of([1, 4, 6, 5], pooled(MEANS * np.arange(1, 6, dtype=np.float32)))
    before = kinds(model)
    int8_graph.pool_in_integers(model)
    assert kinds(model) == before


def test_a_product_reads_the_quantized_map() -> None:
    def build(image: Any) -> Any:
        mean = operations().matmul(image, operations().constant(MEANS), False, True)
        whole = operations().reduce_sum(quantized(image), operations().constant(np.array([3])), True)
        return operations().add(mean, whole)

    model = model_of([1, 4, 6, 5], build)
    int8_graph.pool_quantized_map(model)
    (product,) = (node for node in model.get_ops() if node.get_type_name() == "MatMul")
    assert product.input_value(0).get_node().get_type_name() == "FakeQuantize"


def test_the_quantized_network_has_all_of_it(quantized: Path, small: ModelCard) -> None:
    model = openvino.Core().read_model(quantized / "public" / small.name / "INT8" / f"{small.name}.xml")
    assert "Interpolate" not in kinds(model)
    names = {name for port in (node.output(0) for node in model.get_ordered_ops()) for name in port.get_names()}
    assert {small.input.name, small.output.name} <= names
    products = [node for node in model.get_ops() if node.get_type_name() == "MatMul"]
    in_integers = [one for one in products if one.input_value(1).get_node().get_type_name() == "FakeQuantize"]
    assert len(in_integers) == 1
    sums = [node for node in model.get_ops() if node.get_type_name() == "Add"]
    before = [{one.get_source_output().get_node().get_type_name() for one in node.inputs()} for node in sums]
    assert any("MatMul" in types for types in before)
