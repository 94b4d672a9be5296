"""What all commands have in common: --json and --debug, errors in one line, and the log on stderr."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import click

from pspnet_convert.commands.options import combine_options
from pspnet_convert.commands.output import print_json
from pspnet_convert.errors import (
    DISK_FULL,
    AccuracyError,
    ConvertError,
    DifferenceError,
    InconclusiveError,
    MismatchError,
    WorkspaceError,
    printable,
)

INTERRUPTED, TERMINATED = 130, 143  # 128 and the signal's number, as shells have it


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which `timeout`, Docker and a CI stop a process: it is to clean up as after Ctrl-C."""


def clean_up_when_terminated() -> None:
    """Raise Terminated in this process at SIGTERM, unless whoever started it has that ignored."""

    def terminated(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminated)


def command(function: Callable[..., None]) -> click.Command:
    """A command with --json and --debug, whose errors become one line and an exit code."""

    @functools.wraps(function)
    def guarded(*args: Any, debug: bool, **options: Any) -> None:
        with warnings.catch_warnings(), _errors_in_one_line(debug, as_json=options["as_json"]):
            # mmsegmentation's advice on the sizes of images, to those who train.
            warnings.filterwarnings("ignore", "When align_corners=True", module="mmseg")
            _set_up_logging(debug)
            function(*args, **options)
            sys.stdout.flush()

    with_options = combine_options(
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
        click.option("--debug", is_flag=True, help="Log everything, and show tracebacks."),
    )(guarded)
    return click.command(name=function.__name__.rstrip("_").replace("_", "-"))(with_options)


@contextmanager
def _errors_in_one_line(debug: bool, *, as_json: bool) -> Iterator[None]:
    try:
        yield
    except ConvertError as error:
        if debug:
            logging.getLogger(__name__).debug("traceback", exc_info=True)
        has_printed = isinstance(error, (MismatchError, InconclusiveError, AccuracyError, DifferenceError))
        _leave(error.what, error.exit_code, error.advice or "", as_json=as_json and not has_printed)
    except KeyboardInterrupt as interrupt:
        code = TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED
        _leave("interrupted", code, "What was finished is not done again (evaluate: with --resume).", as_json=as_json)
    except BrokenPipeError:
        # Whoever read stdout has gone; nothing is wrong.
        _give_up_stdout()
    except click.ClickException:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            _give_up_stdout()
            _leave(f"the output cannot be written: {error.strerror}", WorkspaceError.exit_code, "Make room for it.")
        if debug:
            raise
        what = f"unexpected {type(error).__name__}: {error}"
        _leave(what, 1, "This is a bug; --debug shows where.", as_json=as_json)


def _give_up_stdout() -> None:
    """Python must not flush into it once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(what: str, exit_code: int, advice: str = "", *, as_json: bool = False) -> NoReturn:
    if as_json:
        print_json({"error": what, "advice": advice, "exit_code": exit_code})
    print(f"error: {printable(what + (f'. {advice}' if advice else ''))}", file=sys.stderr)
    sys.exit(exit_code)


def _set_up_logging(debug: bool) -> None:
    ours = logging.getLogger("pspnet_convert")
    ours.setLevel(logging.DEBUG if debug else logging.INFO)
    ours.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s" if debug else "%(message)s"))
    ours.handlers = [handler]
