"""Show how far a long stage has come: as a bar on the terminal, as JSON events (one a line), or in the log only."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    import rich.progress

MODES = ("auto", "json", "none")
_SECONDS_BETWEEN_EVENTS = 0.5
log = logging.getLogger(__name__)


class Progress(Protocol):
    """Call `start`, any number of `advance` and `note`, then `done`; then the next stage may start."""

    def start(
        self, total: int | None, name: str, offset: int = 0, *, stage: str = "download", unit: str = "bytes"
    ) -> None:
        """`offset` of `total` units (None: not known) are done. Called again before `done`, it starts anew."""

    def advance(self, units: int, state: str = "") -> None:
        """`units` more are done; `state` describes the work so far."""

    def note(self, text: str, event: str = "note") -> None:
        """Show the user one line; `event` is its kind in the JSON."""

    def done(self) -> None:
        """The stage has ended, with or without an error."""


@contextmanager
def steps(
    progress: Progress, total: int, name: str, *, stage: str, unit: str = "images"
) -> Iterator[Callable[[], None]]:
    """A stage of `total` units that ends with the block, which gets a function that counts one more unit."""
    progress.start(total, name, stage=stage, unit=unit)
    try:
        yield partial(progress.advance, 1)
    finally:
        progress.done()


class Silent:
    """No bar; notes go to the log, so that a CI log shows what a slow stage waited for."""

    def start(
        self, total: int | None, name: str, offset: int = 0, *, stage: str = "download", unit: str = "bytes"
    ) -> None:
        pass

    def advance(self, units: int, state: str = "") -> None:
        pass

    def note(self, text: str, event: str = "note") -> None:
        log.warning(text)

    def done(self) -> None:
        pass


class JsonLines:
    """One JSON object a line: at the start, at the end, and at most twice a second between them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._state: dict[str, Any] = {}
        self._unit = "bytes"
        self._written_at = 0.0

    def start(
        self, total: int | None, name: str, offset: int = 0, *, stage: str = "download", unit: str = "bytes"
    ) -> None:
        self._unit = unit
        self._state = {"event": stage, "file": name, unit: offset, "total": total}
        self._write_state()

    def advance(self, units: int, state: str = "") -> None:
        self._state[self._unit] += units
        if state:
            self._state["state"] = state
        if time.monotonic() - self._written_at >= _SECONDS_BETWEEN_EVENTS:
            self._write_state()

    def note(self, text: str, event: str = "note") -> None:
        self._write({"event": event, "file": self._state.get("file"), "reason": text})

    def done(self) -> None:
        self._write_state()

    def _write_state(self) -> None:
        self._written_at = time.monotonic()
        self._write(self._state)

    def _write(self, event: dict[str, Any]) -> None:
        self._stream.write(json.dumps(event) + "\n")
        self._stream.flush()


class Bar:
    """A bar with rate and time left; notes appear above it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live: rich.progress.Progress | None = None
        self._task: Any = None
        self._name = ""

    def start(
        self, total: int | None, name: str, offset: int = 0, *, stage: str = "download", unit: str = "bytes"
    ) -> None:
        self._name = name
        if self._live is None:
            self._live = _rich_progress(self._stream, in_bytes=unit == "bytes")
            self._task = self._live.add_task(name, total=total, completed=offset)
            self._live.start()
        else:
            self._live.reset(self._task, total=total, completed=offset, description=name)

    def advance(self, units: int, state: str = "") -> None:
        if self._live is not None:
            self._live.update(self._task, advance=units, description=f"{self._name} {state}".rstrip())

    def note(self, text: str, event: str = "note") -> None:
        if self._live is None:
            log.warning(text)
        else:
            self._live.console.print(text, markup=False, highlight=False)

    def done(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def make_progress(mode: str, stderr: TextIO, stdout: TextIO | None = None) -> Progress:
    """`auto`: a bar if `stderr` is a terminal; `json`: events on `stdout` (default: sys.stdout); `none`: no bar."""
    if mode == "json":
        return JsonLines(sys.stdout if stdout is None else stdout)
    if mode == "auto" and stderr.isatty():
        return Bar(stderr)
    return Silent()


def _rich_progress(stream: TextIO, in_bytes: bool) -> rich.progress.Progress:
    # Imported late: it takes a tenth of a second, for which `--help` need not wait.
    from rich import progress
    from rich.console import Console

    amount: list[progress.ProgressColumn] = (
        [progress.DownloadColumn(binary_units=True), progress.TransferSpeedColumn()]
        if in_bytes
        else [progress.MofNCompleteColumn()]
    )
    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        *amount,
        progress.TimeRemainingColumn(),
        console=Console(file=stream),
    )
