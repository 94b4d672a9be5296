"""The inner tensors of an IR on OpenVINO's CPU device, as layer_taps.py describes them.

The front-ends keep the ONNX file's names on the ports of nodes. A port without a name goes by its node's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.errors import ArtifactError
from pspnet_convert.runtimes.backends import last_line, read_ir
from pspnet_convert.runtimes.ir_file import save
from pspnet_convert.runtimes.layer_taps import Convolution, Layer, Values
from pspnet_convert.runtimes.logits_tap import find_ir_logits, ir_labels
from pspnet_convert.runtimes.openvino_install import operations
from pspnet_convert.runtimes.precision_hint import IN_F32
from pspnet_convert.runtimes.winograd_layers import MAP, PRODUCT, TAPS, does, layer_of, step_name

if TYPE_CHECKING:
    import openvino


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
        logits = find_ir_logits(self._model)
        self.logits = None if logits is None else port_names(logits)[0]
        last = ir_labels(self._model) or self._model.outputs[0]
        self.output = port_names(last.get_node().input_value(0))[0]

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
        nodes = {node.get_friendly_name(): node for node in self._model.get_ordered_ops()}
        for node in nodes.values():
            if does(node, PRODUCT):
                found.append(_winograd(nodes, str(layer_of(node))))
            if node.get_type_name() in ("Convolution", "GroupConvolution") and _is_constant(node.input_value(1)):
                weight = list(node.input_value(1).get_shape())
                if node.get_type_name() == "GroupConvolution":
                    weight = [weight[0] * weight[1], *weight[2:]]
                given = port_names(node.input_value(0))[0]
                found.append(Convolution(given, tuple(_chain(node)), tuple(weight)))
        return found


def _winograd(nodes: Mapping[str, openvino.Node], layer: str) -> Convolution:
    """The convolution that the Winograd layer `layer` is."""
    given, weights = (nodes[step_name(layer, step)].input_value(0) for step in (MAP, TAPS))
    return Convolution(port_names(given)[0], tuple(_chain(nodes[layer])), tuple(weights.get_shape()))


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
        compiled = openvino.Core().compile_model(model, "CPU", IN_F32)
        results = compiled(list(given))
        # Copies: the results' memory is the model's.
        return [np.array(results[number]) for number in range(len(compiled.outputs))]
    except RuntimeError as error:
        raise ArtifactError(f"{path}: OpenVINO cannot run it: {last_line(error)}") from error
