"""A process that holds an object and answers calls on it, within limits on time and memory.

It is for models from elsewhere, which may compute for hours or fill the memory, for runtimes whose settings are the
environment's, and for models that must not share a process.
"""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import IO, Any, Self

from pspnet_convert import errors
from pspnet_convert.child_process import python_command, python_environment

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What a worker may use: `seconds` for one call, and bytes of `memory`; None: any amount."""

    seconds: float | None = None
    memory: int | None = None


class WorkerError(Exception):
    """What ended a call in a worker, in one line, where it is no error of this tool."""


class Worker:
    """A process in which `make(*arguments)` made an object; `make`, and what is called, are functions of modules.

    `call` raises the errors of this tool that are raised in the process, and those of `make`. WorkerError for any other
    error, and where the process ends or comes to a limit. `end` may be called by another thread. `environment` is added
    to that of this process, without what is None in it; `name` is for the log.
    """

    def __init__(
        self,
        name: str,
        make: Callable[..., Any],
        arguments: Sequence[Any],
        *,
        limits: Limits | None = None,
        environment: Mapping[str, str | None] | None = None,
    ) -> None:
        self._name, self._limits = name, limits or Limits()
        whole = {**python_environment(), **(environment or {})}
        # Not multiprocessing, whose children run the caller's script again: it would have to guard its main part.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 -- `end` closes it
        self._process = subprocess.Popen(
            python_command("-c", f"from {__name__} import serve; serve()"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            env={key: value for key, value in whole.items() if value is not None},
        )
        self._is_late = self._is_made = False
        self._ending = threading.Lock()
        self._send((self._limits.memory, make, tuple(arguments)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(object, *arguments)`, in the process. The first call waits for the object."""
        if not self._is_made:
            self._answer()
            self._is_made = True
        self._send((function, arguments))
        return self._answer()

    def output(self) -> str:
        """What the process has printed so far. Empty on Windows, where a file that is written cannot be read."""
        if not hasattr(os, "pread"):
            return ""
        return os.pread(self._output.fileno(), os.fstat(self._output.fileno()).st_size, 0).decode(errors="replace")

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        with self._ending:
            if self._output.closed:
                return
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with suppress(OSError):  # what was not sent
                    pipe.close()
            for line in self.output().splitlines():
                log.debug("%s: %s", self._name, line)
            self._output.close()

    def _stop_late(self) -> None:
        self._is_late = True
        self._process.kill()

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        # The process has ended, or another thread has ended it: _answer reports that.
        with suppress(BrokenPipeError, ValueError):
            _write(self._process.stdin, message)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        timer = None
        if self._limits.seconds is not None:
            timer = threading.Timer(self._limits.seconds, self._stop_late)
            timer.daemon = True
            timer.start()
        try:
            kind, value = pickle.load(self._process.stdout)  # noqa: S301 -- our own process wrote it
        except (EOFError, ValueError, pickle.UnpicklingError) as error:  # ValueError: another thread has ended it
            raise WorkerError(self._why_it_ended()) from error
        finally:
            if timer is not None:
                timer.cancel()
        if kind == "error":
            raise WorkerError(value)
        if kind == "raise":
            name, what, advice = value
            raise getattr(errors, name)(what, advice)
        return value

    def _why_it_ended(self) -> str:
        if self._is_late:
            return f"it took more than {self._limits.seconds:g} s"
        status = self._process.wait()
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if self._limits.memory is not None:
            how += f"; it may use {self._limits.memory / 1e9:.1f} GB of memory"
        printed = [] if self._output.closed else self.output().strip().splitlines()
        return f"its process ended ({how})" + (f": {printed[-1][:200]}" if printed else "")


def serve() -> None:
    """The process of a Worker."""
    requests = sys.stdin.buffer
    # Libraries print to stdout: the answers have a file of their own.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at Ctrl-C the parent ends this process
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    memory, make, arguments = pickle.load(requests)  # noqa: S301 -- our own parent wrote it
    if memory is not None:
        _limit_memory(memory)
    made: list[Any] = []
    _write(answers, _attempt(lambda: made.append(make(*arguments))))
    while made:
        try:
            function, arguments = pickle.load(requests)  # noqa: S301
        except EOFError:  # the parent has ended
            return
        _write(answers, _attempt(partial(function, *made, *arguments)))


def _end_with_parent(parent: int) -> None:
    """End this process when its parent has ended: a model that computes for hours reads no request."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _attempt(work: Callable[[], Any]) -> tuple[str, Any]:
    """The kind of the answer, and the answer."""
    try:
        return "done", work()
    except errors.ConvertError as error:
        return "raise", (type(error).__name__, error.what, error.advice)
    except MemoryError:
        return "error", "it needs more memory than it may use"
    # The parent waits for an answer, whatever the error is.
    except Exception as error:
        traceback.print_exc()
        return "error", errors.first_line(error)


def flush_output(_: object) -> None:
    """To be called in a worker: write what C libraries hold back of their output."""
    ctypes.CDLL(None).fflush(None)


def _limit_memory(size: int) -> None:
    """Let this process have `size` bytes of its own (data, not files that it maps). Without effect on Windows."""
    with suppress(ImportError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = size if most == resource.RLIM_INFINITY else min(size, most)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def _write(file: IO[bytes], message: Any) -> None:
    pickle.dump(message, file, protocol=pickle.HIGHEST_PROTOCOL)
    file.flush()
