"""Find the logits (the argmax's input) in a converted model, and make a model of the nodes after them.

The logits are found by structure, not by name, so that files from elsewhere work too. In a model without a label map
they are its output `logits`, or what its softmax takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.errors import ContractError
from pspnet_convert.runtimes.openvino_install import operations
from pspnet_convert.runtimes.output_form import SCORES

if TYPE_CHECKING:
    import onnx
    import openvino

_SO = "so there are no logits to compare"


def onnx_constants(model: onnx.ModelProto) -> set[str]:
    """The names of the tensors that are constants: initializers, and what Constant nodes give."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return constants | {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}


def onnx_logits(model: onnx.ModelProto, path: Path, labels: str) -> str:
    """The name of the logits; `labels` is that of the label map. ContractError if there are none."""
    names = {value.name for value in model.graph.output}
    if labels in names or not names & set(SCORES):
        return str(argmax_nodes(model, path, labels)[-1].input[0])
    if "logits" in names:
        return "logits"
    node = next((node for node in model.graph.node if "probabilities" in node.output), None)
    if node is None or node.op_type != "Softmax":
        raise ContractError(f"{path}: its output probabilities does not come from a softmax, {_SO}")
    return str(node.input[0])


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
    raise ContractError(f"{path}: its output {output} does not come from an argmax, {_SO}")


def onnx_tail(model: onnx.ModelProto, tail: Sequence[onnx.NodeProto], logits: str) -> bytes:
    """The nodes of `tail` (last one first) as a serialized model that takes the logits, and gives label maps."""
    import onnx

    needed = {name for node in tail for name in node.input}
    constants = [node for node in model.graph.node if node.op_type == "Constant" and node.output[0] in needed]
    graph = onnx.helper.make_graph(
        [*constants, *reversed(tail)],
        "argmax",
        [onnx.helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, None)],
        [value for value in model.graph.output if value.name in tail[0].output],
        [tensor for tensor in model.graph.initializer if tensor.name in needed],
    )
    made = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return bytes(made.SerializeToString())


def ir_labels(model: openvino.Model) -> Any:
    """The output with the label map: the first one of integers; None if there is none."""
    return next((port for port in model.outputs if port.get_element_type().is_integral()), None)


def ir_argmax(model: openvino.Model) -> Any:
    """The TopK (OpenVINO's ArgMax) that the label map comes from; None if there is none."""
    labels = ir_labels(model)
    node = None if labels is None else labels.get_node()
    while node is not None and node.get_type_name() != "TopK":
        given = (value.get_node() for value in node.input_values())
        node = next((one for one in given if one.get_type_name() != "Constant"), None)
    return node


def find_ir_logits(model: openvino.Model) -> Any:
    """The logits, as an openvino.Output; None if there are none."""
    argmax = ir_argmax(model)
    if argmax is not None:
        return argmax.input_value(0)
    if ir_labels(model) is not None:
        return None
    given = {name: port.get_node().input_value(0) for port in model.outputs for name in port.get_names()}
    if "logits" in given:
        return given["logits"]
    softmax = given["probabilities"].get_node() if "probabilities" in given else None
    return softmax.input_value(0) if softmax is not None and softmax.get_type_name() == "Softmax" else None


def ir_logits(model: openvino.Model, path: Path) -> Any:
    """As find_ir_logits; ContractError if there are none."""
    logits = find_ir_logits(model)
    if logits is None:
        raise ContractError(f"{path}: its output does not come from an argmax or a softmax, {_SO}")
    return logits


def ir_tail(model: openvino.Model, path: Path) -> openvino.Model:
    """The nodes from the logits to the label map, as an openvino.Model that takes the logits."""
    import openvino

    copy = model.clone()
    logits = ir_logits(copy, path)
    topk = ir_argmax(copy)
    given = operations().parameter(logits.get_partial_shape(), logits.get_element_type())
    topk.input(0).replace_source_output(given.output(0))
    try:
        return openvino.Model([ir_labels(copy).get_node()], [given])
    except RuntimeError as error:
        raise ContractError(f"{path}: the nodes after its logits need other inputs too") from error
