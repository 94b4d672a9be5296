"""Find the first convolution of a converted model, and run the model up to its output.

It is found by structure, not by name, so that files from elsewhere work too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.runtimes.backends import onnx_session
from pspnet_convert.runtimes.logits_tap import onnx_constants
from pspnet_convert.runtimes.openvino_install import operations
from pspnet_convert.runtimes.precision_hint import IN_F32

if TYPE_CHECKING:
    import onnx
    import openvino


def onnx_first_layer(model: onnx.ModelProto) -> str | None:
    """The tensor that the first convolution gives, with its bias; None if there is no convolution."""
    constants = onnx_constants(model)
    reached = {value.name for value in model.graph.input} - constants
    for node in model.graph.node:
        if not reached.intersection(node.input):
            continue
        if node.op_type == "Conv" and node.input[0] in reached:
            return _with_bias(model, node, constants)
        reached.update(node.output)
    return None


def _with_bias(model: onnx.ModelProto, convolution: onnx.NodeProto, constants: set[str]) -> str:
    """The convolution's result, or that of an Add of a constant after it, which is the bias of one without."""
    result = str(convolution.output[0])
    users = [node for node in model.graph.node if result in node.input]
    if len(convolution.input) < 3 and [user.op_type for user in users] == ["Add"]:
        (add,) = users
        if constants.intersection(add.input):
            return str(add.output[0])
    return result


def ir_first_layer(model: openvino.Model) -> Any:
    """The same of an IR, as an openvino.Output; None if there is no convolution."""
    reached = {node.get_friendly_name() for node in model.get_parameters()}
    for node in model.get_ordered_ops():
        given = [port.get_source_output().get_node() for port in node.inputs()]
        if not any(one.get_friendly_name() in reached for one in given):
            continue
        if node.get_type_name() == "Convolution" and given[0].get_friendly_name() in reached:
            return _ir_with_bias(node)
        reached.add(node.get_friendly_name())
    return None


def _ir_with_bias(convolution: Any) -> Any:
    users = [port.get_node() for port in convolution.output(0).get_target_inputs()]
    if [user.get_type_name() for user in users] == ["Add"]:
        given = [port.get_source_output().get_node() for port in users[0].inputs()]
        # FP16 constants are converted to f32.
        origins = [one.input_value(0).get_node() if one.get_type_name() == "Convert" else one for one in given]
        if any(one.get_type_name() == "Constant" for one in origins):
            return users[0].output(0)
    return convolution.output(0)


def run_onnx_first_layer(model: onnx.ModelProto, path: Path, given: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The first convolution's output [N, C, h, w] for the input `given`; None if there is none.

    `path`: of the file, for errors. ArtifactError if ONNX Runtime refuses it.
    """
    import onnx

    name = onnx_first_layer(model)
    if name is None:
        return None
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.output[:]
    cut.graph.output.append(onnx.ValueInfoProto(name=name))  # of any type
    session = onnx_session(path, cut.SerializeToString())
    (found,) = session.run([name], {session.get_inputs()[0].name: given})
    return found.astype(np.float32)  # type: ignore[no-any-return]


def run_ir_first_layer(model: openvino.Model, given: NDArray[Any]) -> NDArray[np.float32] | None:
    """The same of an IR, which computes in float32."""
    import openvino

    copy = model.clone()
    tap = ir_first_layer(copy)
    if tap is None:
        return None
    cut = openvino.Model([operations().result(tap)], copy.get_parameters())
    compiled = openvino.Core().compile_model(cut, "CPU", IN_F32)
    return compiled(given)[0].astype(np.float32)  # type: ignore[no-any-return]
