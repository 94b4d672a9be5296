"""Make an IR that NNCF has quantized cheaper around its convolutions, where the numbers are not INT8.

OpenVINO's CPU plugin turns a map from INT8 to floating point, and from one memory layout to another, wherever two
neighbours do not take the same. On the full-size network that is most of the time outside the convolutions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.pytorch.rewrites.pyramid import stretching_matrix
from pspnet_convert.runtimes.openvino_install import operations

if TYPE_CHECKING:
    import openvino

# Columns of a map that is resized. The product takes so many multiplications for each number that it makes, the
# resize four: with wider maps it is the slower one on processors without matrix units.
_WIDEST = 128
# By OpenVINO's name for it: whether torch calls it align_corners.
_ALIGN_CORNERS = {"align_corners": True, "half_pixel": False, "pytorch_half_pixel": False}


def tidy(model: openvino.Model) -> None:
    """Change `model` in place. Its answers stay the same within the rounding of INT8."""
    pool_quantized_map(model)
    pool_in_integers(model)
    add_unquantized(model)
    resize_by_products(model)
    model.validate_nodes_and_infer_types()


def pool_quantized_map(model: openvino.Model) -> None:
    """Let matrix products (the pyramid's pooling) read the quantized map that a convolution reads too.

    Else the last map is there twice: the convolution before it writes floating point, with its shortcut turned from
    INT8 to that, and the next one waits for the quantization of it.
    """
    for node in _of_type(model, "FakeQuantize"):
        source = node.input_value(0)
        for reader in list(source.get_target_inputs()):
            if reader.get_node().get_type_name() == "MatMul":
                reader.replace_source_output(node.output(0))


def pool_in_integers(model: openvino.Model) -> None:
    """Write a product of a quantized map with means, X W^T, as (X B^T) s: B [n, k] is 0 or 1, s [n] is 1 / count.

    A mean has one weight wherever it has any, so B is exact in INT8. The map stays in bytes when its layout changes.
    B has one scale for all rows: the plugin refuses some products with one for each.
    """
    make = operations()
    for node in _of_type(model, "MatMul"):
        weights = node.input_value(1).get_node()
        is_quantized = node.input_value(0).get_node().get_type_name() == "FakeQuantize"
        if not is_quantized or weights.get_type_name() != "Constant" or not node.get_attributes()["transpose_b"]:
            continue
        rows = np.asarray(weights.data)
        scale = rows.max(axis=-1)
        if rows.ndim != 2 or not np.array_equal(rows, (rows != 0) * scale[:, None]):
            continue
        low, high = make.constant(np.float32(-127)), make.constant(np.float32(127))
        chosen = make.fake_quantize(make.constant((rows != 0).astype(np.float32)), low, high, low, high, 255)
        sums = make.matmul(node.input_value(0), chosen, False, True)
        means = make.multiply(sums, make.constant(scale))
        for reader in list(node.output(0).get_target_inputs()):
            reader.replace_source_output(means.output(0))


def add_unquantized(model: openvino.Model) -> None:
    """Add matrix products (the pyramid's branch) in floating point: quantizing both before the sum saves nothing."""
    for node in _of_type(model, "Add"):
        before = [node.input_value(port).get_node() for port in (0, 1)]
        sources = [one.input_value(0) for one in before if one.get_type_name() == "FakeQuantize"]
        if len(sources) == 2 and any(source.get_node().get_type_name() == "MatMul" for source in sources):
            for port, source in enumerate(sources):
                node.input(port).replace_source_output(source)


def resize_by_products(model: openvino.Model) -> None:
    """Write a bilinear resize [N, C, h, w] -> [N, C, H, W] as R x K, with constants R [H, h] and K [w, W].

    The same sums: bilinear weights are separable. The product gives the layout that the argmax takes, and the resize
    would give the convolution's, of the largest tensor of the network.
    """
    make = operations()
    for node in _of_type(model, "Interpolate"):
        given, made = node.input(0).get_partial_shape(), node.output(0).get_partial_shape()
        align_corners = _ALIGN_CORNERS.get(node.get_attributes()["coordinate_transformation_mode"])
        if node.get_attributes()["mode"] != "linear_onnx" or align_corners is None or given.rank.get_length() != 4:
            continue
        sides = [shape[axis] for shape in (given, made) for axis in (2, 3)]
        if any(side.is_dynamic for side in sides):
            continue
        rows, columns, height, width = (side.get_length() for side in sides)
        if columns > _WIDEST:
            continue
        wide = make.matmul(node.input_value(0), make.constant(bilinear(columns, width, align_corners)), False, True)
        whole = make.matmul(make.constant(bilinear(rows, height, align_corners)), wide, False, False)
        whole.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(whole.output(0))


def bilinear(given: int, made: int, align_corners: bool) -> NDArray[np.float32]:
    """The matrix [made, given] of a linear resize along one side, as torch's interpolate and OpenVINO define it."""
    return stretching_matrix(made, given, align_corners).float().numpy()


def _of_type(model: openvino.Model, name: str) -> list[Any]:
    """The nodes of this type, in their order, except those on constants."""
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == name]
    return [node for node in nodes if node.input_value(0).get_node().get_type_name() != "Constant"]
