"""Save a converted model at each precision, with the input form that was asked for. Runs in the child process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.commands.to_ir.input_form import in_form
from pspnet_convert.runtimes.input_form import InputForm
from pspnet_convert.runtimes.ir_file import save
from pspnet_convert.runtimes.openvino_install import operations

if TYPE_CHECKING:
    import openvino

_ARITHMETIC = {"Add", "Subtract", "Multiply", "Divide"}
_MOVING = {"Parameter", "Convert", "Transpose", "Reshape", "Gather", "Split", "VariadicSplit", "Concat"}


def save_all(model: openvino.Model, request: dict[str, Any], note: Callable[[], None]) -> None:
    """Save `model` at each precision of the request's `targets`, with its `form` of input and its `model_info`.

    `note` is called after each.
    """
    model = in_form(model, InputForm(**request["form"]))
    for name, value in request["model_info"].items():
        model.set_rt_info(value, ["model_info", name])
    for precision, path in request["targets"].items():
        is_fp16 = precision == "FP16"
        save(model, Path(path), compress_to_fp16=is_fp16)
        if is_fp16 and request["keeps_float32_input"]:
            save(with_float32_input(Path(path), model), Path(path), compress_to_fp16=False)
        note()


def with_float32_input(compressed: Path, model: openvino.Model) -> openvino.Model:
    """The IR `compressed`, which OpenVINO made of `model`, with the constants of mean and scale in float32 again."""
    import openvino

    # save_model has no way to leave a constant out: its mark for that has another name in each release.
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # or the file could not be written again
    read = core.read_model(str(compressed))
    exact = _normalising(model)
    for name, node in _normalising(read).items():
        for given, kept in zip(node.inputs(), exact[name].inputs()):
            source = kept.get_source_output().get_node()
            if source.get_type_name() == "Constant":
                given.replace_source_output(operations().constant(source.data).output(0))
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
