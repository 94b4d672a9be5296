"""OpenVINO's own converter at work in a process of its own (child_process.py): ONNX to IR, as ir.py asks.

Knows nothing of cards and workspaces.
"""

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
    """Convert `onnx`, put before it what `arguments` say, and save it as ir_file.save_all is asked to."""
    import openvino

    # Bytes, since a path is shown to torch first, which logs a traceback. Not by Core.read_model, which leaves
    # hundreds of nodes that compute constants.
    model = openvino.convert_model(io.BytesIO(Path(request["onnx"]).read_bytes()))
    save_all(with_preprocessing(model, **request["arguments"]), request, note)


def with_preprocessing(
    model: openvino.Model, input: str, layout: str, mean: list[float], scale: list[float], reverse_channels: bool
) -> openvino.Model:
    """`model` with its input's channels reversed if asked for, and then its mean taken off and its scale divided by."""
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
