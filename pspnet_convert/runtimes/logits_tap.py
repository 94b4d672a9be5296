"""Find the logits (the argmax's input) in a converted model, and make a model of the nodes after them.

The logits are found by structure, not by name, so that files from elsewhere work too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.errors import ContractError
from pspnet_convert.runtimes.openvino_install import operations

if TYPE_CHECKING:
    import onnx
    import openvino


def onnx_constants(model: onnx.ModelProto) -> set[str]:
    """The names of the tensors that are constants: initializers, and what Constant nodes give."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return constants | {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}


def argmax_nodes(model: onnx.ModelProto, path: Path, output: str) -> list[onnx.NodeProto]:
    """The nodes from `output` back to the ArgMax, last one first. ContractError if there is no ArgMax."""
    producers = {name: node for node in model.graph.node for name in node.output}
    constants = onnx_constants(model)
    nodes: list[onnx.NodeProto] = []
    wanted = output
    while len(nodes) <= len(model.graph.node) and wanted in producers:  # a broken graph may have a cycle
        nodes.append(producers[wanted])
        if nodes[-1].op_type == "ArgMax":
            return nodes
        wanted = next((name for name in nodes[-1].input if name not in constants), "")
    raise ContractError(f"{path}: its output {output} does not come from an argmax, so there are no logits to compare")


def onnx_tail(model: onnx.ModelProto, tail: Sequence[onnx.NodeProto], logits: str) -> bytes:
    """The nodes of `tail` (last one first) as a serialized model that takes the logits."""
    import onnx

    needed = {name for node in tail for name in node.input}
    constants = [node for node in model.graph.node if node.op_type == "Constant" and node.output[0] in needed]
    graph = onnx.helper.make_graph(
        [*constants, *reversed(tail)],
        "argmax",
        [onnx.helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, None)],
        list(model.graph.output),
        [tensor for tensor in model.graph.initializer if tensor.name in needed],
    )
    made = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return bytes(made.SerializeToString())


def ir_argmax(model: openvino.Model) -> Any:
    """The TopK (OpenVINO's ArgMax) that the model's result comes from; None if there is none."""
    node = model.outputs[0].get_node()
    while node is not None and node.get_type_name() != "TopK":
        given = (value.get_node() for value in node.input_values())
        node = next((one for one in given if one.get_type_name() != "Constant"), None)
    return node


def ir_logits(model: openvino.Model, path: Path) -> Any:
    """The logits, as an openvino.Output. ContractError if there is no argmax."""
    node = ir_argmax(model)
    if node is None:
        raise ContractError(f"{path}: its output does not come from an argmax, so there are no logits to compare")
    return node.input_value(0)


def ir_tail(model: openvino.Model, path: Path) -> openvino.Model:
    """The nodes after the logits, as an openvino.Model that takes the logits."""
    import openvino

    copy = model.clone()
    logits = ir_logits(copy, path)
    topk = ir_argmax(copy)
    given = operations().parameter(logits.get_partial_shape(), logits.get_element_type())
    topk.input(0).replace_source_output(given.output(0))
    try:
        return openvino.Model([copy.outputs[0].get_node()], [given])
    except RuntimeError as error:
        raise ContractError(f"{path}: the nodes after its logits need other inputs too") from error
