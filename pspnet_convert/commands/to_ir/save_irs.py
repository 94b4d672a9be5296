"""Save a converted model at each precision, with the input form that was asked for. Runs in the child process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.commands.to_ir.input_form import in_form
from pspnet_convert.commands.to_ir.winograd import rewrite_convolutions, transforms
from pspnet_convert.runtimes.input_form import InputForm
from pspnet_convert.runtimes.ir_file import save
from pspnet_convert.runtimes.logits_tap import find_ir_logits
from pspnet_convert.runtimes.openvino_install import operations

if TYPE_CHECKING:
    import openvino

_ARITHMETIC = {"Add", "Subtract", "Multiply", "Divide"}
_MOVING = {"Parameter", "Convert", "Transpose", "Reshape", "Gather", "Split", "VariadicSplit", "Concat"}


def save_all(model: openvino.Model, request: dict[str, Any], note: Callable[[], None]) -> None:
    """Save `model` at each precision of the request's `targets`, with its `form` of input, its `model_info`, and its
    convolutions rewritten as `winograd` says.

    `note` is called after each.
    """
    model = in_form(model, InputForm(**request["form"]))
    rewrite_convolutions(model, request["winograd"])
    exact = _exact(model, request)
    hide_from_model_api(model, request["labels"])
    for name, value in request["model_info"].items():
        model.set_rt_info(value, ["model_info", name])
    for precision, path in request["targets"].items():
        is_fp16 = precision == "FP16"
        save(model, Path(path), compress_to_fp16=is_fp16)
        if is_fp16 and exact:
            save(with_float32_constants(Path(path), exact, request), Path(path), compress_to_fp16=False)
        note()


def hide_from_model_api(model: openvino.Model, labels: str) -> None:
    """Give one of two outputs the name `feature_vector` too; `labels` is the label map's name.

    Model API (0.2 to 0.4, models/segmentation.py) computes the argmax of scores. It allows one more output, of that
    name, and does not read it. From a binary head's probabilities it would get another label map than by the head's
    threshold: such an IR keeps its names.
    """
    outputs = {name: port for port in model.outputs for name in port.get_names()}
    if len(model.outputs) != 2 or ("logits" not in outputs and _deciding(model)):
        return
    outputs[labels if labels in outputs else "probabilities"].add_names({"feature_vector"})


def _exact(model: openvino.Model, request: dict[str, Any]) -> dict[str, openvino.Node]:
    """Nodes by name. Their constants must not be rounded."""
    normalising = _normalising(model) if request["keeps_float32_input"] else {}
    return {**normalising, **_deciding(model), **transforms(model)}


def with_float32_constants(
    compressed: Path, exact: Mapping[str, openvino.Node], request: dict[str, Any]
) -> openvino.Model:
    """The IR `compressed` with the constants of the `exact` nodes, which are those before its compression."""
    import openvino

    # save_model has no way to leave a constant out: its mark for that has another name in each release.
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # or the file could not be written again
    read = core.read_model(str(compressed))
    for name, node in _exact(read, request).items():
        for given, kept in zip(node.inputs(), exact[name].inputs()):
            source = kept.get_source_output().get_node()
            is_rounded = given.get_source_output().get_node().get_type_name() == "Convert"
            if source.get_type_name() == "Constant" and is_rounded:
                constant = operations().constant(source.data)
                constant.set_friendly_name(source.get_friendly_name())  # the default has a count of the process's nodes
                given.replace_source_output(constant.output(0))
    read.validate_nodes_and_infer_types()
    return read


def _normalising(model: openvino.Model) -> dict[str, openvino.Node]:
    """The nodes that compute with mean and scale, by name: arithmetic before the first layer."""
    found = {}
    nodes = [model.input(0).get_node()]
    while nodes:
        node = nodes.pop()
        name, kind = node.get_friendly_name(), node.get_type_name()
        if name not in found and kind in {*_ARITHMETIC, *_MOVING}:
            found[name] = node
            nodes += [target.get_node() for output in node.outputs() for target in output.get_target_inputs()]
    return {name: node for name, node in found.items() if node.get_type_name() in _ARITHMETIC}


def _deciding(model: openvino.Model) -> dict[str, openvino.Node]:
    """The node that puts a binary head's threshold next to its score, by name."""
    logits = find_ir_logits(model)
    if logits is None:
        return {}
    node = logits.get_node()
    return {node.get_friendly_name(): node} if node.get_type_name() == "Pad" else {}
