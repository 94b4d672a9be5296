"""Run a module of this package in a child process: a JSON request on its stdin, JSON answers on its stdout.

Some libraries set up logging, telemetry and progress bars for the whole process. They run in a child: `run_in_child`
is the parent's side, `serve_request` the child's.
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
from typing import Any

Work = Callable[[dict[str, Any], Callable[[], None]], None]
log = logging.getLogger(__name__)


def run_in_child(module: str, request: Mapping[str, Any], label: str, note: Callable[[], None] = lambda: None) -> str:
    """Run `pspnet_convert.<module>` on `request`; returns its error, empty if all went well.

    OSError where the system refused it something, a full disk above all. What it says on the way goes into the
    debug log behind `label`; `note` is called for each step that it tells.
    """
    # OpenVINO's telemetry, which Model Optimizer and NNCF share, declines to send anything where it sees a CI.
    environment = {**os.environ, "CI": "true", "PYTHONIOENCODING": "utf-8"}
    error = number = None
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as chatter:
        with subprocess.Popen(
            [sys.executable, "-m", f"pspnet_convert.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=chatter,
            text=True,
            env=environment,
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                # One that ends before it has read says why on stderr.
                with suppress(BrokenPipeError), process.stdin as stdin:
                    json.dump(request, stdin)
                for line in process.stdout:
                    told = json.loads(line)
                    error, number = told.get("error"), told.get("errno")
                    if error is None:
                        note()
            except BaseException:
                process.kill()
                raise
        chatter.seek(0)
        said = [line for line in chatter.read().splitlines() if line.strip()]
    for line in said:
        log.debug("%s: %s", label, line)
    if number is not None:
        raise OSError(number, os.strerror(number))
    if error is None:
        return f"it ended with status {process.returncode}: {said[-1] if said else 'no output'}"
    return str(error)


def serve_request(work: Work) -> None:
    """Do `work` on the request of the process that asked; its second argument tells of a step that is done."""
    # Libraries print to stdout: keep the real one for the answers alone.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)

        def tell(what: Mapping[str, Any]) -> None:
            answers.write(json.dumps(what) + "\n")
            answers.flush()

        try:
            work(json.load(sys.stdin), lambda: tell({}))
            tell({"error": ""})
        # The libraries' errors are of many classes (Model Optimizer's own, RuntimeError, argparse's SystemExit).
        except (Exception, SystemExit) as raised:
            words = [line.strip() for line in str(raised).splitlines() if line.strip()]
            tell({"error": " ".join(words)[:800] or type(raised).__name__, "errno": getattr(raised, "errno", None)})
