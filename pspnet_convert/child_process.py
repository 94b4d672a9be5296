"""Run a module of this package in a child process: a JSON request on its stdin, JSON answers on its stdout.

This is for libraries that set up logging, telemetry and progress bars for the whole process. `run_in_child` is the
parent's side, `serve_request` the child's.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Work = Callable[[dict[str, Any], Callable[[], None]], None]
log = logging.getLogger(__name__)


def python_command(*arguments: str) -> list[str]:
    """Python with `arguments`, without the current folder on its path: a user's torch.py is not torch."""
    return [sys.executable, "-P", *arguments]


def python_environment() -> dict[str, str]:
    """The environment of a child that imports from where this process does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(folder).absolute()) for folder in sys.path)}


def run_in_child(module: str, request: Mapping[str, Any], label: str, note: Callable[[], None] = lambda: None) -> str:
    """Run `pspnet_convert.<module>` on `request`; returns its error message, empty if it succeeded.

    Raises OSError if the child met one, such as a full disk. The child's output goes to the debug log, after `label`;
    `note` is called for each step that the child reports.
    """
    # OpenVINO's telemetry, which Model Optimizer and NNCF share, sends nothing in a CI.
    environment = {**python_environment(), "CI": "true", "PYTHONIOENCODING": "utf-8"}
    error = number = None
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        with subprocess.Popen(
            python_command("-m", f"pspnet_convert.{module}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            env=environment,
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                # A child that ends before it reads the request says why on stderr.
                with suppress(BrokenPipeError), process.stdin as stdin:
                    json.dump(request, stdin)
                for line in process.stdout:
                    answer = json.loads(line)
                    error, number = answer.get("error"), answer.get("errno")
                    if error is None:
                        note()
            except BaseException:
                process.kill()
                raise
        output.seek(0)
        lines = [line for line in output.read().splitlines() if line.strip()]
    for line in lines:
        log.debug("%s: %s", label, line)
    if number is not None:
        raise OSError(number, os.strerror(number))
    if error is None:
        return f"it ended with status {process.returncode}: {lines[-1] if lines else 'no output'}"
    return str(error)


def serve_request(work: Work) -> None:
    """In the child: do `work` on the request, and answer. The second argument of `work` reports a finished step."""
    # Libraries print to stdout: send that to stderr, and keep the real stdout for the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)

        def send(answer: Mapping[str, Any]) -> None:
            answers.write(json.dumps(answer) + "\n")
            answers.flush()

        try:
            work(json.load(sys.stdin), lambda: send({}))
            send({"error": ""})
        # The libraries' errors are of many classes (Model Optimizer's own, RuntimeError, argparse's SystemExit).
        except (Exception, SystemExit) as raised:
            lines = [line.strip() for line in str(raised).splitlines() if line.strip()]
            send({"error": " ".join(lines)[:800] or type(raised).__name__, "errno": getattr(raised, "errno", None)})
