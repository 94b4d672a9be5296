"""Write an IR and see that it is whole, which OpenVINO does not. For the processes that make IRs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    import openvino


def save_all(model: openvino.Model, request: dict[str, Any], note: Callable[[], None]) -> None:
    """Save a converted model at each precision of `targets`, `model_info` in it; `note` after each."""
    for name, value in request["model_info"].items():
        model.set_rt_info(value, ["model_info", name])
    for precision, path in request["targets"].items():
        save(model, Path(path), compress_to_fp16=precision == "FP16")
        note()


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
        number = _refusal(path)
        if number is None:
            raise
        raise OSError(number, os.strerror(number)) from error


def _refusal(path: Path) -> Optional[int]:
    """The system's error number for one more byte in either file, which a full disk refuses; None if it does not."""
    try:
        for part in (path, path.with_suffix(".bin")):
            with part.open("ab") as file:
                file.write(b"\0")
    except OSError as error:
        return error.errno
    return None
