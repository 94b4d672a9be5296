"""Convert ONNX to IR with OpenVINO's own converter, in a child process (child_process.py)."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.child_process import serve_request
from pspnet_convert.commands.to_ir.save_irs import save_all

if TYPE_CHECKING:
    import openvino


def convert(request: dict[str, Any], note: Callable[[], None]) -> None:
    """Convert the request's `onnx`, add the preprocessing of its `arguments`, and save it with save_all."""
    import openvino

    # Bytes, since convert_model tries a path with torch first, which logs a traceback. Not Core.read_model, which
    # leaves hundreds of nodes that compute constants.
    model = openvino.convert_model(io.BytesIO(Path(request["onnx"]).read_bytes()))
    save_all(with_preprocessing(model, **request["arguments"]), request, note)


def with_preprocessing(
    model: openvino.Model, input: str, layout: str, mean: list[float], scale: list[float], reverse_channels: bool
) -> openvino.Model:
    """`model` with preprocessing: reverse the input's channels if asked for, subtract `mean`, divide by `scale`."""
    import openvino
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(model)
    given = steps.input(input)
    given.tensor().set_layout(openvino.Layout(layout))
    given.model().set_layout(openvino.Layout(layout))
    if reverse_channels:
        given.preprocess().reverse_channels()
    given.preprocess().mean(mean).scale(scale)
    return steps.build()


if __name__ == "__main__":
    serve_request(convert)
