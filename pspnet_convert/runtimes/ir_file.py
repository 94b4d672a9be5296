"""Write an IR and check that its files are complete, which OpenVINO does not check."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

_BYTES_OF_NODE = 4096  # in an .xml, at most; most take less than a fifth
_CHUNK = 1 << 20


def save(model: openvino.Model, path: Path, *, compress_to_fp16: bool) -> None:
    """Write the .xml `path` and its .bin. OSError with the system's error number if the disk is full or read-only."""
    import openvino

    # If the parent process was killed, the next run has removed this folder. OpenVINO would make it again.
    path.parent.stat()
    try:
        openvino.save_model(model, str(path), compress_to_fp16=compress_to_fp16)
        # save_model does not notice when a full disk cuts the file off.
        openvino.Core().read_model(str(path))
    except RuntimeError as error:
        number = _disk_error(model, path)
        if number is None:
            raise
        raise OSError(number, os.strerror(number)) from error


def _disk_error(model: openvino.Model, path: Path) -> int | None:
    """The system's error number when files of the same sizes are written; None if they can be.

    OpenVINO does not say why it could not write, and since 2025 it then removes its files.
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
