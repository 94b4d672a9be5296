"""Write an IR and see that it is whole, which OpenVINO does not. For the processes that make IRs."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

_BYTES_OF_NODE = 4096  # of an .xml, and seldom a fifth of that
_CHUNK = 1 << 20


def save(model: openvino.Model, path: Path, *, compress_to_fp16: bool) -> None:
    """Write the .xml `path` with its .bin beside it. OSError, with its number, where the disk refuses."""
    import openvino

    # OpenVINO would make the folder anew where the next run has swept it away, this one's parent having been killed.
    path.parent.stat()
    try:
        openvino.save_model(model, str(path), compress_to_fp16=compress_to_fp16)
        # What a full disk cut off, save_model does not notice.
        openvino.Core().read_model(str(path))
    except RuntimeError as error:
        number = _refusal(model, path)
        if number is None:
            raise
        raise OSError(number, os.strerror(number)) from error


def _refusal(model: openvino.Model, path: Path) -> int | None:
    """The system's error number for as many bytes as both files take; None where there is room for them.

    What refused OpenVINO's own, it does not say, and since 2025 it has removed them by then.
    """
    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    weights = sum(math.prod(one.get_output_shape(0)) * one.get_output_element_type(0).size for one in constants)
    try:
        for part, size in ((path.with_suffix(".bin"), weights), (path, _BYTES_OF_NODE * len(model.get_ops()))):
            with part.open("wb") as file:
                for start in range(0, size, _CHUNK):
                    file.write(bytes(min(_CHUNK, size - start)))
    except OSError as error:
        return error.errno
    return None
