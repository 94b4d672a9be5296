"""Rewrite an IR's 3x3 convolutions by Winograd's algorithm, for processors that compute in float32.

For a map x [C, H, W] and weights w [O, C, 3, 3], stride 1, zero padding as large as the dilation:

    y[o] = sum_{pq} A_rows[p] (sum_c U[p, q, o, c] * (B_rows[p] x[c] B_cols[q]^T)) A_cols[q]^T      U = G w G^T

    B_rows  [points, tiles, H]   constant: from rows to points     A_rows  [H, points, tiles]   constant: back
    B_cols  [points, tiles, W]                                     A_cols  [W, points, tiles]
    U       [points^2, O, C]     the product over C is one batched matrix product, [O, C] by [C, tiles^2] for each point

A tile of F(4x4, 3x3) takes 36 products where the convolution takes 144. Padding, dilation and sizes that 4 does not
divide are in the constant matrices (winograd_matrices.py). The IR keeps w; U is computed from it when a runtime
compiles the IR, so that the file keeps its size.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, arXiv 1509.09308.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.to_ir.options import Winograd
from pspnet_convert.commands.to_ir.winograd_matrices import KERNEL, Side, side
from pspnet_convert.runtimes.openvino_install import operations
from pspnet_convert.runtimes.precision_hint import mark_as_f32
from pspnet_convert.runtimes.winograd_layers import COLUMNS, HALVES, PRODUCT, TAPS, layer_of, step_name

if TYPE_CHECKING:
    import openvino

# Where it pays: measured by scripts/bench_winograd.py, with AVX-512 and with AVX2. The transforms' matrices are small
# and sparse: one of their multiply-adds takes as long as two of the product. With few channels or tiles, moving the
# values takes longest.
_TRANSFORMS = 2
_GAIN = 1.3
_CHANNELS = 256
_TILES = 64


def rewrite_convolutions(model: openvino.Model, which: Winograd) -> int:
    """Rewrite `all` 3x3 convolutions of `model` that have the form above, or those where it pays (`auto`).

    Changes `model`, and writes into its metadata that it is made for float32. Returns how many it rewrote.
    """
    found = [] if which == "off" else [node for node in model.get_ordered_ops() if _is_fit(node)]
    chosen = [node for node in found if which == "all" or _shape(node).pays]
    for node in chosen:
        _rewrite(node)
    if chosen:
        mark_as_f32(model)
        model.validate_nodes_and_infer_types()
    return len(chosen)


def transforms(model: openvino.Model) -> dict[str, openvino.Node]:
    """The matrix products of the Winograd layers, by name."""
    products = [node for node in model.get_ops() if node.get_type_name() == "MatMul"]
    return {node.get_friendly_name(): node for node in products if any(map(layer_of, _sources(node)))}


def _sources(node: openvino.Node) -> list[openvino.Node]:
    return [value.get_node() for value in node.input_values()]


@dataclass(frozen=True)
class LayerShape:
    """A 3x3 convolution's channels, and the map that it takes and gives. `dilation`: of rows and columns."""

    given: int
    made: int
    height: int
    width: int
    dilation: tuple[int, int]

    @property
    def grids(self) -> int:
        """How many interleaved grids of rows the same matrices are for: all, where each has as many rows."""
        return self.dilation[0] if self.height % self.dilation[0] == 0 else 1

    @property
    def rows(self) -> Side:
        """The matrices of the rows of each grid."""
        return side(self.height // self.grids, self.dilation[0] // self.grids)

    @property
    def columns(self) -> Side:
        """The matrices of the columns."""
        return side(self.width, self.dilation[1])

    @property
    def pays(self) -> bool:
        """Whether it is faster so in float32: see docs/performance.md for the measurement."""
        rows, columns = self.rows, self.columns
        tiles = self.grids * rows.tiles * columns.tiles
        plain = KERNEL**2 * self.height * self.width * self.given * self.made
        products = rows.points * columns.points * tiles * self.given * self.made
        across = columns.points * columns.tiles
        transforms = (self.given + self.made) * across * self.height * (self.width + rows.points * rows.tiles)
        is_large = min(self.given, self.made) >= _CHANNELS and tiles >= _TILES
        return is_large and plain > _GAIN * (products + _TRANSFORMS * transforms)


def _is_fit(node: openvino.Node) -> bool:
    if node.get_type_name() != "Convolution" or node.get_element_type().get_type_name() != "f32":
        return False
    attributes = node.get_attributes()
    dilation = list(attributes["dilations"])
    paddings = [list(attributes[name]) for name in ("pads_begin", "pads_end")]
    map_shape = node.input_value(0).get_partial_shape()
    return (
        _is_constant(node.input_value(1).get_node())
        and list(node.input_value(1).get_shape()[2:]) == [KERNEL, KERNEL]
        and list(attributes["strides"]) == [1, 1]
        and attributes["auto_pad"] == "explicit"
        and paddings == [dilation, dilation]
        and all(map_shape[axis].is_static for axis in (1, 2, 3))
    )


def _is_constant(node: openvino.Node) -> bool:
    """Whether it is a constant, or one of FP16 that is turned into float32."""
    source = node.input_value(0).get_node() if node.get_type_name() == "Convert" else node
    return bool(source.get_type_name() == "Constant")


def _shape(node: openvino.Node) -> LayerShape:
    made, given = node.input_value(1).get_shape()[:2]
    height, width = (node.input_value(0).get_partial_shape()[axis].get_length() for axis in (2, 3))
    down, across = node.get_attributes()["dilations"]
    return LayerShape(given, made, height, width, (down, across))


def _rewrite(node: openvino.Node) -> None:
    shape, steps = _shape(node), _Steps(node.get_friendly_name())
    rows, columns, grids = shape.rows, shape.columns, shape.grids
    points = rows.points * columns.points
    image, weights = node.input_value(0), node.input_value(1)

    taps = steps.reshape(TAPS, weights, [shape.made * shape.given, KERNEL**2])
    by_point = steps.product("weights", np.kron(rows.weights, columns.weights), taps, transpose_b=True)
    by_point = steps.reshape("weights-by-point", by_point, [points, shape.made, shape.given])

    # [N, C, H, W] to [points^2, C, N * tiles^2]. -1: whatever the batch makes.
    across = columns.points * columns.tiles
    given = steps.of_columns(COLUMNS, image, _flat(columns.given))
    given = steps.reshape("rows-of-grids", given, [-1, shape.given, rows.length, grids * across])
    given = steps.product("rows", _flat(rows.given), given)
    tiles = [rows.points, rows.tiles * grids, columns.points, columns.tiles]
    given = steps.reshape("tiles", given, [-1, shape.given, *tiles])
    given = steps.transpose("tiles-by-point", given, [2, 4, 1, 0, 3, 5])
    given = steps.reshape("tiles-in-line", given, [points, shape.given, -1])

    made = steps.product(PRODUCT, by_point, given)

    # [points^2, O, N * tiles^2] to [N, O, H, W]
    made = steps.reshape("points", made, [rows.points, columns.points, shape.made, -1, tiles[1], columns.tiles])
    made = steps.transpose("points-by-tile", made, [3, 2, 0, 4, 1, 5])
    made = steps.reshape("points-in-line", made, [-1, across])
    made = steps.of_columns("columns-back", made.output(0), columns.result.reshape(shape.width, -1))
    made = steps.reshape("grids", made, [-1, shape.made, rows.points * rows.tiles, grids * shape.width])
    made = steps.product("rows-back", rows.result.reshape(rows.length, -1), made)
    made = steps.reshape("map", made, [-1, shape.made, shape.height, shape.width])

    name = node.get_friendly_name()
    node.output(0).replace(made.output(0))
    node.set_friendly_name(step_name(name, "replaced"))
    made.set_friendly_name(name)


def _flat(given: NDArray[np.float64]) -> NDArray[np.float64]:
    """[points, tiles, length] as [points * tiles, length]."""
    return given.reshape(-1, given.shape[2])


class _Steps:
    """Makes the nodes of a layer, each with a name of its own: the default has a count of the process's nodes."""

    def __init__(self, layer: str) -> None:
        self._layer, self._operations = layer, operations()

    def product(self, step: str, left: Any, right: Any, *, transpose_b: bool = False) -> Any:
        """left @ right, or with `transpose_b` left @ right^T; an array is a float32 constant."""
        operands = [
            self._constant(step, value.astype(np.float32)) if isinstance(value, np.ndarray) else value
            for value in (left, right)
        ]
        return self._named(step, self._operations.matmul(*operands, False, transpose_b))

    def of_columns(self, step: str, value: openvino.Output, matrix: NDArray[np.float64]) -> Any:
        """Of rows in any shape, [.., length]: rows @ matrix^T, as [copies, .., columns]."""
        shape = value.get_partial_shape()
        count = shape[len(shape) - 2]
        # Two copies of the matrix, each for half of the rows: OpenVINO's plain product is twice as fast as its fully
        # connected layer, which it takes for a single constant matrix.
        copies = 2 if count.is_static and count.get_length() % 2 == 0 else 1
        halves = self.reshape(f"{step}/{HALVES}", value, [copies, -1, matrix.shape[1]])
        return self.product(step, halves, np.stack([matrix] * copies), transpose_b=True)

    def reshape(self, step: str, value: Any, shape: Sequence[int]) -> Any:
        target = self._constant(step, np.array(shape, np.int64))
        return self._named(step, self._operations.reshape(value, target, False))

    def transpose(self, step: str, value: Any, axes: Sequence[int]) -> Any:
        order = self._constant(step, np.array(axes, np.int64))
        return self._named(step, self._operations.transpose(value, order))

    def _constant(self, step: str, value: NDArray[Any]) -> Any:
        return self._named(f"{step}/constant", self._operations.constant(value))

    def _named(self, step: str, node: Any) -> Any:
        node.set_friendly_name(step_name(self._layer, step))
        return node
