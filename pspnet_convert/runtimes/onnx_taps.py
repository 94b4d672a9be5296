"""The inner tensors of an ONNX file on ONNX Runtime, as layer_taps.py describes them."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pspnet_convert.errors import ArtifactError, ContractError, first_line
from pspnet_convert.runtimes.backends import onnx_session
from pspnet_convert.runtimes.layer_taps import Convolution, Layer, Values
from pspnet_convert.runtimes.logits_tap import onnx_constants, onnx_logits

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)


class OnnxPart:
    """See Part. `optimised`: whether ONNX Runtime may fuse its nodes, as it does in a model that ships."""

    def __init__(self, model: onnx.ModelProto, inputs: Sequence[str], tensors: Sequence[str], optimised: bool) -> None:
        self._model = model
        self.inputs, self.tensors = inputs, tensors
        self._optimised = optimised

    def run(self, values: Values) -> NDArray[Any]:
        path = Path("layer.onnx")
        session = onnx_session(path, self._model.SerializeToString(), optimised=self._optimised)
        return _run_session(session, path, [self.tensors[-1]], {name: values[name] for name in self.inputs})[0]

    def save(self, folder: Path) -> Path:
        target = folder / "layer.onnx"
        target.write_bytes(self._model.SerializeToString())
        return target


class OnnxTaps:
    """See LayerTaps."""

    def __init__(self, model: onnx.ModelProto, path: Path, *, optimised: bool = True) -> None:
        self._model, self._path, self._optimised = model, path, optimised
        self._serialized = model.SerializeToString()
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._constants = onnx_constants(model)
        self.layers: Mapping[str, Layer] = {
            name: Layer(node.name, node.op_type, index)
            for index, node in enumerate(model.graph.node)
            for name in node.output
            if name and node.op_type != "Constant"
        }
        self.image = next(value.name for value in model.graph.input if value.name not in self._weights)
        self.output = str(model.graph.output[0].name)
        self.logits: str | None = None
        try:
            self.logits = onnx_logits(model, path, self.output)
        except ContractError:
            log.debug("%s: has no logits", path)

    def run(self, names: Collection[str], given: NDArray[Any]) -> dict[str, NDArray[Any]]:
        import onnx

        # Protobuf merges messages that are written one after another: this adds outputs to the graph.
        taps = onnx.ModelProto()
        there = {value.name for value in self._model.graph.output}
        taps.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
        serialized = self._serialized + taps.SerializeToString()
        session = onnx_session(self._path, serialized, optimised=self._optimised)
        wanted = list(names)
        return dict(zip(wanted, _run_session(session, self._path, wanted, {self.image: given})))

    def part(self, known: Collection[str], target: str) -> OnnxPart:
        import onnx

        nodes, inputs, tensors = self._cone(known, target)
        graph = onnx.helper.make_graph(
            nodes,
            "layer",
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in inputs],
            [onnx.ValueInfoProto(name=target)],
            [self._weights[name] for name in dict.fromkeys(n for node in nodes for n in node.input)
             if name in self._weights],
        )  # fmt: skip
        made = onnx.helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)
        return OnnxPart(made, inputs, tensors, self._optimised)

    def _cone(self, known: Collection[str], target: str) -> tuple[list[onnx.NodeProto], list[str], list[str]]:
        """The nodes back from `target` to the tensors `known` or the image; the tensors they take, and those they make,
        in the order of execution."""
        inputs: dict[str, None] = {}
        made: dict[str, onnx.NodeProto] = {}
        waiting = [target]
        while waiting:
            name = waiting.pop()
            if name in made or name in inputs or name in self._weights or not name:
                continue
            if name not in self._producers or (name in known and name != target):
                inputs[name] = None
                continue
            made[name] = self._producers[name]
            waiting.extend(self._producers[name].input)
        kept = {id(node) for node in made.values()}
        nodes = [node for node in self._model.graph.node if id(node) in kept]
        tensors = sorted((name for name in made if name in self.layers), key=lambda name: self.layers[name].index)
        return nodes, list(inputs), tensors

    def sizes(self, batch: int) -> dict[str, int]:
        from onnx import TensorProto, shape_inference

        known = {value.name: value.type.tensor_type for value in self._model.graph.value_info}
        if not self.layers.keys() <= {*known, *(value.name for value in self._model.graph.output)}:
            inferred = shape_inference.infer_shapes(self._model)
            known = {value.name: value.type.tensor_type for value in inferred.graph.value_info}
        return {
            name: 4 * math.prod(side.dim_value or batch for side in kind.shape.dim)
            for name, kind in known.items()
            if name in self.layers and kind.elem_type == TensorProto.FLOAT
        }

    def convolutions(self) -> list[Convolution]:
        nodes = [node for node in self._model.graph.node if node.op_type == "Conv" and node.input[1] in self._weights]
        return [
            Convolution(node.input[0], tuple(self._chain(node)), tuple(self._weights[node.input[1]].dims))
            for node in nodes
        ]

    def _chain(self, node: onnx.NodeProto) -> Iterator[str]:
        """The node's result, then those of the nodes that change it by constants."""
        yield node.output[0]
        readers = [one for one in self._model.graph.node if node.output[0] in one.input]
        if len(readers) == 1 and readers[0].op_type in ("Add", "Sub", "Mul", "Div", "BatchNormalization"):
            others = [name for name in readers[0].input if name != node.output[0]]
            if others and self._constants.issuperset(others):
                yield from self._chain(readers[0])


def _run_session(session: Any, path: Path, names: Sequence[str], given: Values) -> list[NDArray[Any]]:
    try:
        return list(session.run(list(names), dict(given)))
    except Exception as error:  # ONNX Runtime's exceptions have no base class except Exception
        raise ArtifactError(f"{path}: ONNX Runtime cannot run it: {first_line(error)}") from error
