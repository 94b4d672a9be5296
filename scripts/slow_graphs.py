"""Graphs made to compute for hours, or to fill the memory: a right ONNX file with such a step before the network."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def endless_loop(model: onnx.ModelProto, steps: int) -> None:
    """Run a loop of so many steps on the image before the network."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["goes_on_then"]),
            helper.make_node("Add", ["so_far", "nothing"], ["then"]),
        ],
        "body",
        [value("step", TensorProto.INT64, []), value("goes_on", TensorProto.BOOL, []), value("so_far", 1, None)],
        [value("goes_on_then", TensorProto.BOOL, []), value("then", 1, None)],
    )
    _add_constants(model, steps=np.array(steps, np.int64), yes=np.array(True), nothing=np.zeros(1, np.float32))
    put_first(model, helper.make_node("Loop", ["steps", "yes", model.graph.input[0].name], ["changed"], body=body))


def many_numbers(model: onnx.ModelProto, count: int) -> None:
    """Add to the image 0 times the largest of `count` float32 numbers, all made from its first value."""
    ints = {"many": count, "one": 1, "first": 0, "flat": -1}
    _add_constants(model, **{name: np.array([number], np.int64) for name, number in ints.items()})
    _add_constants(model, nothing=np.zeros(1, np.float32))
    image = model.graph.input[0].name
    put_first(
        model,
        helper.make_node("Reshape", [image, "flat"], ["values"]),
        helper.make_node("Slice", ["values", "first", "one"], ["value"]),
        helper.make_node("Expand", ["value", "many"], ["expanded"]),
        helper.make_node("Exp", ["expanded"], ["exps"]),
        helper.make_node("ReduceMax", ["exps"], ["largest"], keepdims=1),
        helper.make_node("Mul", ["largest", "nothing"], ["zero"]),
        helper.make_node("Add", [image, "zero"], ["changed"]),
    )


def put_first(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Put nodes, which give `changed`, between the image and all that reads it."""
    image = model.graph.input[0].name
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == image:
                node.input[place] = "changed"
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def _add_constants(model: onnx.ModelProto, **values: np.ndarray) -> None:
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
