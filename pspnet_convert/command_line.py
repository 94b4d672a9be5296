"""A command: a function of options objects, callable from Python and from the command line.

On the command line each has --json and --debug, its errors are one line and an exit code, and its log is on stderr.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Generic, NoReturn, TypeVar

import click

from pspnet_convert.errors import DISK_FULL, ConvertError, WorkspaceError, printable
from pspnet_convert.options import GROUPS, GroupedOption, Options, click_parameters

INTERRUPTED, TERMINATED = 130, 143  # 128 and the signal's number, as shells have it
Result = TypeVar("Result")
Show = Callable[[Any, bool], None]  # a result, and whether it is wanted as JSON


class Takes:
    """An options class that a command takes; some of its fields, where `names` are given."""

    def __init__(self, options: type[Options], *names: str) -> None:
        self.options = options
        self.names = names or tuple(options.declarations())


class Command(Generic[Result]):
    """A public function of the tool. Call it from Python; `click_command` is the same on the command line.

    From Python it takes the command line's arguments (and an option that is required) in their order, the other options
    by name. None stands for an option's default. It prints nothing, and raises the errors of errors.py.
    """

    def __init__(
        self, function: Callable[..., Result], takes: Sequence[Takes], show: Show, example: str, name: str
    ) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function, self._takes, self._show = function, takes, show
        self._example, self.name, self._help = example, name, inspect.cleandoc(function.__doc__ or "")
        self.__annotations__ = {}
        self.__doc__ = "\n".join([self._help, "", "Options:", *self._option_lines()])

    def __call__(self, *arguments: Any, **values: Any) -> Result:
        bound = self.__signature__.bind(*arguments, **values)
        given = bound.arguments
        if "progress" in self.__signature__.parameters and given.get("progress") is None:
            given["progress"] = "none"
        with _without_advice_to_trainers():
            return self._function(*self._options(given, lambda options, chosen: options.of(chosen)))

    @functools.cached_property
    def __signature__(self) -> inspect.Signature:
        parameters = []
        for taken in self._takes:
            declared = taken.options.declarations()
            for name in taken.names:
                required = bool(declared[name].click_options.get("required"))
                positional = required or declared[name].is_argument
                kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if positional else inspect.Parameter.KEYWORD_ONLY
                default = inspect.Parameter.empty if required else getattr(taken.options, name)
                default = "none" if name == "progress" else default
                annotation = taken.options.__annotations__[name]
                parameters.append(inspect.Parameter(name, kind, default=default, annotation=annotation))
        parameters.sort(key=lambda parameter: parameter.kind)
        return inspect.Signature(parameters)

    def _option_lines(self) -> Iterator[str]:
        for taken in self._takes:
            declared = taken.options.declarations()
            for name in taken.names:
                yield f"    {name}: {declared[name].click_options.get('help', 'as on the command line')}"

    def click_command(self) -> click.Command:
        """The command for the command line's group."""
        parameters = [one for taken in self._takes for one in click_parameters(taken.options, taken.names)]
        general = [
            GroupedOption(["as_json", "--json"], is_flag=True, help="Print the result as JSON."),
            GroupedOption(["debug", "--debug"], is_flag=True, help="Log everything, and show tracebacks."),
        ]
        return _HelpfulCommand(
            self.name, callback=self._run, params=[*parameters, *general], help=self._help, example=self._example
        )

    def _run(self, as_json: bool, debug: bool, **values: Any) -> None:
        with _errors_in_one_line(debug, as_json=as_json), _without_advice_to_trainers():
            _set_up_logging(debug)
            result = self._function(*self._options(values, lambda options, chosen: options(**chosen)))
            self._show(result, as_json)
            sys.stdout.flush()
        with _errors_in_one_line(debug, as_json=False):  # what is on stdout says it already
            if isinstance(error := getattr(result, "failure", None), ConvertError):
                raise error

    def _options(
        self, values: dict[str, Any], make: Callable[[type[Options], dict[str, Any]], Options]
    ) -> list[Options]:
        """One options object for each class that the command takes."""
        return [
            make(taken.options, {name: values[name] for name in taken.names if name in values}) for taken in self._takes
        ]


def command(
    *takes: Takes, show: Show, example: str, name: str | None = None
) -> Callable[[Callable[..., Result]], Command[Result]]:
    """Make a command of a function that takes one options object for each of `takes`.

    `show` prints its result, a table or JSON; `example` is the first thing that `--help` shows. The command is called
    like the function unless `name` says otherwise.
    """

    def decorate(function: Callable[..., Result]) -> Command[Result]:
        return Command(function, takes, show, example, name or function.__name__.replace("_", "-"))

    return decorate


class _HelpfulCommand(click.Command):
    """Its help has the example first, and the options in sections."""

    def __init__(self, *arguments: Any, example: str, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.example = example

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            # Not by write_text, which breaks long lines.
            formatter.write(f"{'':{formatter.current_indent}}{self.example}\n")
        super().format_help_text(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group in GROUPS:
            options = [one for one in self.get_params(ctx) if isinstance(one, click.Option) and _section(one) == group]
            rows = [row for option in options if (row := option.get_help_record(ctx)) is not None]
            if rows:
                with formatter.section(f"{group} options"):
                    formatter.write_dl(rows)


def _section(option: click.Option) -> str:
    return option.group if isinstance(option, GroupedOption) else "General"


def print_json(data: Any) -> None:
    """Print plain values as JSON."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


class Terminated(KeyboardInterrupt):
    """SIGTERM, which `timeout`, Docker and CI systems send: the process cleans up as after Ctrl-C."""


def clean_up_when_terminated() -> None:
    """Raise Terminated in this process at SIGTERM, unless its parent has made it ignore that signal."""

    def terminated(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminated)


@contextmanager
def _without_advice_to_trainers() -> Iterator[None]:
    """mmsegmentation advises on image sizes for training whenever a network with align_corners runs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "When align_corners=True", module="mmseg")
        yield


@contextmanager
def _errors_in_one_line(debug: bool, *, as_json: bool) -> Iterator[None]:
    try:
        yield
    except ConvertError as error:
        if debug:
            logging.getLogger(__name__).debug("traceback", exc_info=True)
        _leave(error.what, error.exit_code, error.advice or "", as_json=as_json)
    except KeyboardInterrupt as interrupt:
        code = TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED
        advice = "Run it again: finished stages are kept. For evaluate add --resume."
        _leave("interrupted", code, advice, as_json=as_json)
    except BrokenPipeError:
        # The reader of stdout has gone; nothing is wrong.
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
    """Python must not flush into it again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(what: str, exit_code: int, advice: str = "", *, as_json: bool = False) -> NoReturn:
    if as_json:
        print_json({"error": what, "advice": advice, "exit_code": exit_code})
    print(f"error: {printable(what + (f'. {advice}' if advice else ''))}", file=sys.stderr)
    sys.exit(exit_code)


class _OnceFilter(logging.Filter):
    """Lets a record with `once` through only if it is the first with this value."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        once = getattr(record, "once", None)
        is_first = once not in self._seen
        if once is not None:
            self._seen.add(once)
        return is_first


def _set_up_logging(debug: bool) -> None:
    ours = logging.getLogger("pspnet_convert")
    ours.setLevel(logging.DEBUG if debug else logging.INFO)
    ours.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_OnceFilter())
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s" if debug else "%(message)s"))
    ours.handlers = [handler]
