"""Model Optimizer in a process of its own: a JSON request on stdin, a JSON answer on stdout, chatter on stderr.

Started by ir.py; knows nothing of cards and workspaces.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    # Model Optimizer prints to stdout: keep the real one for the answer alone.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    error = convert(json.load(sys.stdin))
    with answer:
        json.dump({"error": error}, answer)


def convert(request: dict[str, Any]) -> str:
    """Convert as asked; returns what went wrong in one line, empty if nothing did."""
    import openvino
    from openvino.tools import mo

    try:
        model = mo.convert_model(request["input_model"], **request["arguments"])
        for name, value in request["model_info"].items():
            model.set_rt_info(value, ["model_info", name])
        for precision, path in request["targets"].items():
            openvino.save_model(model, path, compress_to_fp16=precision == "FP16")
    # Model Optimizer's errors are of many classes (its own Error, RuntimeError, argparse's SystemExit).
    except (Exception, SystemExit) as error:
        words = [line.strip() for line in str(error).splitlines() if line.strip()]
        return " ".join(words)[:500] or type(error).__name__
    return ""


if __name__ == "__main__":
    main()
