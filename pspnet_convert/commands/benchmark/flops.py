"""Count the operations of a graph: two for each multiply-add in its convolutions and matrix products.

Bias, ReLU, resize and pooling windows are left out: together below 1 % of a PSPNet.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def gflops(path: Path) -> float:
    """The operations of one run of an ONNX file, in 10^9. Its shapes must be static."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path)), data_prop=True).graph
    shapes = {value.name: _shape(value) for value in [*graph.input, *graph.value_info, *graph.output]}
    shapes.update({tensor.name: tuple(tensor.dims) for tensor in graph.initializer})
    return sum(_operations(node, shapes) for node in graph.node) / 1e9


def _operations(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Two for each product in each sum; every element of the output is one sum. A transposed convolution adds up the
    products of each element of its input."""
    if node.op_type in ("Conv", "ConvTranspose"):
        # Weight: [out, in / groups, kernel height, kernel width]; transposed, [in, out / groups, ...].
        summed = node.output[0] if node.op_type == "Conv" else node.input[0]
        return 2 * prod(shapes[summed]) * prod(shapes[node.input[1]][1:])
    if node.op_type == "MatMul":
        return 2 * prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return 0


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
