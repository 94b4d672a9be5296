"""Convert ONNX to IR with Model Optimizer, in a child process (child_process.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pspnet_convert.child_process import serve_request
from pspnet_convert.commands.to_ir.save_irs import save_all


def convert(request: dict[str, Any], note: Callable[[], None]) -> None:
    """Convert the request's `onnx` with its `arguments`, and save it with save_all."""
    from openvino.tools import mo

    save_all(mo.convert_model(request["onnx"], **request["arguments"]), request, note)


if __name__ == "__main__":
    serve_request(convert)
