"""Save a converted model at each precision, with the input form that was asked for. Runs in the child process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.commands.to_ir.input_form import in_form
from pspnet_convert.runtimes.input_form import InputForm
from pspnet_convert.runtimes.ir_file import save

if TYPE_CHECKING:
    import openvino


def save_all(model: openvino.Model, request: dict[str, Any], note: Callable[[], None]) -> None:
    """Save `model` at each precision of the request's `targets`, with its `form` of input and its `model_info`.

    `note` is called after each.
    """
    model = in_form(model, InputForm(**request["form"]))
    for name, value in request["model_info"].items():
        model.set_rt_info(value, ["model_info", name])
    for precision, path in request["targets"].items():
        save(model, Path(path), compress_to_fp16=precision == "FP16")
        note()
