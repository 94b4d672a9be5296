"""Model Optimizer in a process of its own: a JSON request on stdin, a JSON answer on stdout, chatter on stderr.

Started by ir.py; knows nothing of cards and workspaces.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional


def main() -> None:
    # Model Optimizer prints to stdout: keep the real one for the answer alone.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    result = convert(json.load(sys.stdin))
    with answer:
        json.dump(result, answer)


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Convert as asked. `error`: what went wrong in one line, empty if nothing did; `errno`: the disk's part in it."""
    from openvino.tools import mo

    targets = {precision: Path(path) for precision, path in request["targets"].items()}
    try:
        model = mo.convert_model(request["input_model"], **request["arguments"])
        for name, value in request["model_info"].items():
            model.set_rt_info(value, ["model_info", name])
        for precision, path in targets.items():
            save(model, path, compress_to_fp16=precision == "FP16")
    # Model Optimizer's errors are of many classes (its own Error, RuntimeError, argparse's SystemExit).
    except (Exception, SystemExit) as error:
        words = [line.strip() for line in str(error).splitlines() if line.strip()]
        return {"error": " ".join(words)[:500] or type(error).__name__, "errno": refusal(targets.values())}
    return {"error": ""}


def save(model: Any, path: Path, *, compress_to_fp16: bool) -> None:
    """Write the .xml with its .bin beside it, and see that they are whole."""
    import openvino

    # OpenVINO would make the folder anew where the next run has swept it away, this one's parent having been killed.
    path.parent.stat()
    openvino.save_model(model, str(path), compress_to_fp16=compress_to_fp16)
    # What a full disk cut off, save_model does not notice.
    openvino.Core().read_model(str(path))


def refusal(paths: Iterable[Path]) -> Optional[int]:
    """The system's error number for one more byte in any of the IRs, which a full disk refuses; None if it does not."""
    try:
        for path in paths:
            for part in (path, path.with_suffix(".bin")):
                with part.open("ab") as file:
                    file.write(b"\0")
    except OSError as error:
        return error.errno
    return None


if __name__ == "__main__":
    main()
