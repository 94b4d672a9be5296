"""Read the inner tensors of a converted model while it runs, and cut a few of its nodes out as a model of their own.

A tensor is known by its name: in an ONNX file each has one. In an IR the front-ends keep the ONNX names on the ports; a
port without a name goes by its node's.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.errors import ArtifactError, ContractError, first_line
from pspnet_convert.runtimes.backends import last_line, onnx_session, read_ir
from pspnet_convert.runtimes.ir_file import save
from pspnet_convert.runtimes.logits_tap import argmax_nodes, ir_argmax
from pspnet_convert.runtimes.openvino_install import operations

if TYPE_CHECKING:
    import onnx
    import openvino

log = logging.getLogger(__name__)
Values = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Layer:
    """The node that makes a tensor: its name, operation and place in the order of execution, from 0."""

    name: str
    op: str
    index: int


@dataclass(frozen=True)
class Convolution:
    """`weight`: its shape [out, in / groups, height, width]. `results`: its output, then that with a constant added or
    multiplied, as a bias or a BatchNorm does, if nothing else reads the output."""

    given: str
    results: tuple[str, ...]
    weight: tuple[int, ...]


class Part(Protocol):
    """A few nodes of a model as a model of their own. `inputs`: the tensors that it takes; `tensors`: those it makes,
    in the order of execution, the one that it gives last."""

    inputs: Sequence[str]
    tensors: Sequence[str]

    def run(self, values: Values) -> NDArray[Any]:
        """The last tensor, from the values of the inputs. ArtifactError if the runtime refuses the part."""

    def save(self, folder: Path) -> Path:
        """Write the part into `folder` as `layer.onnx`, or `layer.xml` and `layer.bin`; gives the path."""


class LayerTaps(Protocol):
    """A model whose inner tensors can be read. `layers`: what makes each tensor, in the order of execution.

    `image`: the name of its input; `output`: its label map; `logits`: the argmax's input, None without an argmax.
    """

    layers: Mapping[str, Layer]
    image: str
    output: str
    logits: str | None

    def run(self, names: Collection[str], given: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The tensors `names` for the input `given`; only these are kept. ArtifactError if the model does not run."""

    def part(self, known: Collection[str], target: str) -> Part:
        """The nodes from the tensors `known`, or the input, to `target`."""

    def sizes(self, batch: int) -> Mapping[str, int]:
        """Bytes of each float32 tensor of a known rank; a dimension that is not fixed counts as `batch`."""

    def convolutions(self) -> list[Convolution]:
        """Those with constant weights, in the order of execution."""


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
            self.logits = str(argmax_nodes(model, path, self.output)[-1].input[0])
        except ContractError:
            log.debug("%s: has no argmax at its end", path)

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
            if others and all(self._is_constant(name) for name in others):
                yield from self._chain(readers[0])

    def _is_constant(self, name: str) -> bool:
        return name in self._weights or (name in self._producers and self._producers[name].op_type == "Constant")


class IrPart:
    """See Part."""

    def __init__(self, model: openvino.Model, inputs: Sequence[str], tensors: Sequence[str]) -> None:
        self._model = model
        self.inputs, self.tensors = inputs, tensors

    def run(self, values: Values) -> NDArray[Any]:
        path = Path("layer.xml")
        return _run_ir(self._model, path, [values[name] for name in self.inputs])[0]

    def save(self, folder: Path) -> Path:
        target = folder / "layer.xml"
        save(self._model, target, compress_to_fp16=False)
        return target


class IrTaps:
    """See LayerTaps; runs on OpenVINO's CPU device, in float32. ArtifactError if the file is no IR."""

    def __init__(self, path: Path) -> None:
        import openvino

        self._path = path
        self._model = read_ir(openvino.Core(), path)
        layers: dict[str, Layer] = {}
        for index, node in enumerate(self._model.get_ordered_ops()):
            if node.get_type_name() in ("Constant", "Parameter", "Result"):
                continue
            layer = Layer(node.get_friendly_name(), node.get_type_name(), index)
            layers.update(dict.fromkeys((name for port in node.outputs() for name in port_names(port)), layer))
        self.layers: Mapping[str, Layer] = layers
        self.image = port_names(self._model.inputs[0])[0]
        argmax = ir_argmax(self._model)
        self.logits = None if argmax is None else port_names(argmax.input_value(0))[0]
        self.output = port_names(self._model.outputs[0].get_node().input_value(0))[0]

    def input_of(self, tensor: str) -> str:
        """The first input of the node that makes `tensor`."""
        return port_names(_ports(self._model)[tensor].get_node().input_value(0))[0]

    def run(self, names: Collection[str], given: NDArray[Any]) -> dict[str, NDArray[Any]]:
        model = self._model.clone()
        ports = _ports(model)
        model.add_outputs([ports[name] for name in {_id_of(ports[name]): name for name in names}.values()])
        found = _run_ir(model, self._path, [given])
        # A port may have several of the names, and may be an output already.
        places = {_id_of(port.get_node().input_value(0)): place for place, port in enumerate(model.outputs)}
        return {name: found[places[_id_of(ports[name])]] for name in names}

    def part(self, known: Collection[str], target: str) -> IrPart:
        import openvino

        model = self._model.clone()
        ports = _ports(model)
        known_ports = {_id_of(ports[name]): name for name in known if name in ports}
        inputs: dict[str, Any] = {}
        tensors: dict[int, str] = {}
        seen: set[str] = set()
        waiting = [ports[target].get_node()]
        order = {node.get_friendly_name(): index for index, node in enumerate(model.get_ordered_ops())}
        while waiting:
            node = waiting.pop()
            if node.get_friendly_name() in seen:
                continue
            seen.add(node.get_friendly_name())
            if node.get_type_name() == "Parameter":
                inputs[port_names(node.output(0))[0]] = node
                continue
            if node.get_type_name() != "Constant":
                tensors[order[node.get_friendly_name()]] = port_names(node.output(0))[0]
            for entry in node.inputs():
                source = entry.get_source_output()
                name = known_ports.get(_id_of(source))
                if name is None:
                    waiting.append(source.get_node())
                    continue
                if name not in inputs:
                    inputs[name] = operations().parameter(source.get_partial_shape(), source.get_element_type())
                    inputs[name].set_friendly_name(name)
                entry.replace_source_output(inputs[name].output(0))
        result = operations().result(ports[target])
        made = openvino.Model([result], list(inputs.values()))
        for name, node in inputs.items():
            node.output(0).set_names({name})
        names = [tensors[index] for index in sorted(tensors)]
        return IrPart(made, list(inputs), [*(name for name in names if name != target), target])

    def sizes(self, batch: int) -> dict[str, int]:
        return {
            name: 4 * math.prod(side.get_length() if side.is_static else batch for side in port.get_partial_shape())
            for name, port in _ports(self._model).items()
            if name in self.layers and port.get_element_type().get_type_name() == "f32"
            and port.get_partial_shape().rank.is_static
        }  # fmt: skip

    def convolutions(self) -> list[Convolution]:
        found = []
        for node in self._model.get_ordered_ops():
            if node.get_type_name() in ("Convolution", "GroupConvolution") and _is_constant(node.input_value(1)):
                weight = list(node.input_value(1).get_shape())
                if node.get_type_name() == "GroupConvolution":
                    weight = [weight[0] * weight[1], *weight[2:]]
                given = port_names(node.input_value(0))[0]
                found.append(Convolution(given, tuple(_chain(node)), tuple(weight)))
        return found


def _chain(node: openvino.Node) -> Iterator[str]:
    """The node's result, then those of the nodes that change it by constants."""
    result = node.output(0)
    yield port_names(result)[0]
    readers = [entry.get_node() for entry in result.get_target_inputs()]
    if len(readers) == 1 and readers[0].get_type_name() in ("Add", "Subtract", "Multiply", "Divide"):
        sources = [entry.get_source_output() for entry in readers[0].inputs()]
        if all(_is_constant(source) for source in sources if _id_of(source) != _id_of(result)):
            yield from _chain(readers[0])


def _is_constant(port: openvino.Output) -> bool:
    """Whether it is a constant, in any number of conversions and reshapes."""
    node = port.get_node()
    while node.get_type_name() in ("Convert", "Reshape"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def port_names(port: openvino.Output) -> list[str]:
    """The tensor's names, in order; its node's name if it has none."""
    number = port.get_index()
    return sorted(port.get_names()) or [port.get_node().get_friendly_name() + (f":{number}" if number else "")]


def _id_of(port: openvino.Output) -> tuple[str, int]:
    return port.get_node().get_friendly_name(), port.get_index()


def _ports(model: openvino.Model) -> dict[str, Any]:
    ports = [port for node in model.get_ordered_ops() if node.get_type_name() != "Result" for port in node.outputs()]
    return {name: port for port in ports for name in port_names(port)}


def _run_ir(model: openvino.Model, path: Path, given: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    import openvino

    try:
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        results = compiled(list(given))
        # Copies: the results' memory is the model's.
        return [np.array(results[number]) for number in range(len(compiled.outputs))]
    except RuntimeError as error:
        raise ArtifactError(f"{path}: OpenVINO cannot run it: {last_line(error)}") from error


def _run_session(session: Any, path: Path, names: Sequence[str], given: Values) -> list[NDArray[Any]]:
    try:
        return list(session.run(list(names), dict(given)))
    except Exception as error:  # ONNX Runtime's exceptions have no base class except Exception
        raise ArtifactError(f"{path}: ONNX Runtime cannot run it: {first_line(error)}") from error
