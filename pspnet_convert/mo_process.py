"""Model Optimizer at work in a process of its own (own_process.py): ONNX to IR, as ir.py asks.

Knows nothing of cards and workspaces.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pspnet_convert.input_form import InputForm
from pspnet_convert.ir_file import save
from pspnet_convert.ir_input import in_form
from pspnet_convert.own_process import answer


def convert(request: dict[str, Any], note: Callable[[], None]) -> None:
    """Convert `input_model` with `arguments` and save it at each precision of `targets`, its input in `form`.

    `model_info` is in it.
    """
    from openvino.tools import mo

    model = mo.convert_model(request["input_model"], **request["arguments"])
    model = in_form(model, InputForm(**request["form"]))
    for name, value in request["model_info"].items():
        model.set_rt_info(value, ["model_info", name])
    for precision, path in request["targets"].items():
        save(model, Path(path), compress_to_fp16=precision == "FP16")
        note()


if __name__ == "__main__":
    answer(convert)
