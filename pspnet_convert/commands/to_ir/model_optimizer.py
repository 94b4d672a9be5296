"""Model Optimizer at work in a process of its own (child_process.py): ONNX to IR, as ir.py asks.

Knows nothing of cards and workspaces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pspnet_convert.child_process import serve_request
from pspnet_convert.commands.to_ir.save_irs import save_all


def convert(request: dict[str, Any], note: Callable[[], None]) -> None:
    """Convert `onnx` with `arguments`, and save it as ir_file.save_all is asked to."""
    from openvino.tools import mo

    save_all(mo.convert_model(request["onnx"], **request["arguments"]), request, note)


if __name__ == "__main__":
    serve_request(convert)
