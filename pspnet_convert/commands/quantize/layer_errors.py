"""Measure how far each layer's quantization alone moves the logits.

The FP32 IR runs with one layer at a time quantized as it is in an INT8 IR: its inputs, its weights, and its corrected
bias. Both IRs are of the same graph, so that a layer has one name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.quantize.image_files import evenly_spread
from pspnet_convert.runtimes.backends import read_ir
from pspnet_convert.runtimes.input_form import ImageShape, InputForm, pad_batch
from pspnet_convert.runtimes.logits_tap import ir_logits
from pspnet_convert.runtimes.model_images import ModelImages
from pspnet_convert.runtimes.openvino_install import operations
from pspnet_convert.runtimes.precision_hint import IN_F32

if TYPE_CHECKING:
    import openvino

_IMAGES = 2  # a layer's error differs little from image to image
_LAYERS = ("Convolution", "GroupConvolution", "Add")
_INSERTED = ("FakeQuantize", "Multiply")  # by NNCF: the second is SmoothQuant's


def layer_errors(
    fp32: Path,
    int8: Path,
    card: ModelCard,
    shape: ImageShape,
    form: InputForm,
    images: Sequence[Path],
) -> list[tuple[str, float]]:
    """The layers that the IR `int8` quantizes, largest error first.

    The error is of the logits, root mean square, relative to the FP32 IR's, over a few of `images`.
    """
    import openvino

    core = openvino.Core()
    plain, quantized = read_ir(core, fp32), read_ir(core, int8)
    files = ModelImages.of(card)
    batch, _, height, width = shape
    given = [
        form.tensor(pad_batch([files.fitted(path, height, width)], batch)) for path in evenly_spread(images, _IMAGES)
    ]
    expected = _logits(core, plain.clone(), given)
    names = quantized_layers(plain, quantized)
    found = []
    for name in names:
        moved = _logits(core, with_one_layer(plain, quantized, name), given) - expected
        found.append((name, float(np.sqrt(np.square(moved).mean() / np.square(expected).mean()))))
    return sorted(found, key=lambda one: (-one[1], one[0]))


def quantized_layers(plain: openvino.Model, quantized: openvino.Model) -> list[str]:
    """The names of the convolutions and sums of `plain` that take quantized numbers in `quantized`, in their order."""
    there = _by_name(plain)
    layers = [node for node in quantized.get_ordered_ops() if node.get_type_name() in _LAYERS]
    return [
        node.get_friendly_name()
        for node in layers
        if node.get_friendly_name() in there and any(_inserted(node, port, there) for port in (0, 1))
    ]


def with_one_layer(plain: openvino.Model, quantized: openvino.Model, name: str) -> openvino.Model:
    """The model `plain` with the layer `name` as in `quantized`."""
    import openvino

    made, source = plain.clone(), quantized.clone()
    there = _by_name(made)
    layer, wanted = there[name], _by_name(source)[name]
    for port in (0, 1):
        if _is_constant(wanted.input_value(port)):
            layer.input(port).replace_source_output(wanted.input_value(port))
            continue
        for node in reversed(_inserted(wanted, port, there)):
            node.input(_data_port(node)).replace_source_output(layer.input_value(port))
            layer.input(port).replace_source_output(node.output(0))
    bias, corrected = _bias(layer), _bias(wanted)
    if bias is not None and corrected is not None:
        bias.replace_source_output(corrected.get_source_output())
    model = openvino.Model(made.get_results(), made.get_parameters())
    model.validate_nodes_and_infer_types()  # what stood before a MaxPool has another shape behind it
    return model


def _inserted(layer: openvino.Node, port: int, there: Mapping[str, Any]) -> list[Any]:
    """What NNCF has put before the input `port` of a layer, the nearest first; also before a MaxPool: quantizing
    before it is quantizing after it."""
    found = []
    node = layer.input_value(port).get_node()
    while True:
        if node.get_type_name() in _INSERTED and node.get_friendly_name() not in there:
            found.append(node)
        elif node.get_type_name() != "MaxPool":
            return [] if _is_constant(layer.input_value(port)) else found
        node = node.input_value(_data_port(node)).get_node()


def _data_port(node: openvino.Node) -> int:
    """The input that is no constant."""
    return int(_is_constant(node.input_value(0)))


def _is_constant(port: openvino.Output) -> bool:
    """Whether it comes from constants alone, as quantized weights do."""
    node = port.get_node()
    if node.get_type_name() == "Constant":
        return True
    is_step = node.get_type_name() in ("Convert", "Subtract", "Multiply", "Reshape", "FakeQuantize")
    return is_step and all(_is_constant(entry.get_source_output()) for entry in node.inputs())


def _bias(layer: openvino.Node) -> Any:
    """The input of the next node that adds a constant; None if there is no such node."""
    readers = [entry.get_node() for entry in layer.output(0).get_target_inputs()]
    if len(readers) != 1 or readers[0].get_type_name() != "Add":
        return None
    return next((entry for entry in readers[0].inputs() if _is_constant(entry.get_source_output())), None)


def _by_name(model: openvino.Model) -> dict[str, Any]:
    return {node.get_friendly_name(): node for node in model.get_ordered_ops()}


def _logits(core: openvino.Core, model: openvino.Model, given: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """The argmax's input for each of `given`, in float32."""
    import openvino

    tap = operations().result(ir_logits(model, Path(model.get_friendly_name())))
    inner = openvino.Model([tap], model.get_parameters())
    compiled = core.compile_model(inner, "CPU", IN_F32)
    return np.stack([np.array(compiled([image])[0]) for image in given])
