"""Convert ONNX to IR with Model Optimizer, in a child process (child_process.py)."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pspnet_convert.child_process import serve_request
from pspnet_convert.commands.to_ir.save_irs import save_all


def convert(request: dict[str, Any], note: Callable[[], None]) -> None:
    """Convert the request's `onnx` with its `arguments`, and save it with save_all."""
    from openvino.tools import mo

    # Bytes, since Model Optimizer takes a path with a comma for a list of paths.
    onnx = io.BytesIO(Path(request["onnx"]).read_bytes())
    save_all(mo.convert_model(onnx, **request["arguments"]), request, note)


if __name__ == "__main__":
    serve_request(convert)
