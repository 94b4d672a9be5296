"""How much of the processors' time other programs take, and the machine below a virtual one, while models are timed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pspnet_convert.runtimes.timing import Contestant

_STAT = Path("/proc/stat")
_IDLE = (3, 4)  # the columns idle and iowait; the ones after steal (7) are part of others
_STEAL = 7
LARGEST_SHARE = 0.05


@dataclass(frozen=True)
class Usage:
    """At one moment, in seconds of a processor's time: `all` that was used, `ours` of that; `clock`: of the wall."""

    clock: float
    all: float
    ours: float


def usage(processes: Sequence[Contestant]) -> Usage | None:
    """The usage now; `ours` is that of `processes` and of this one. None where the system does not say (not Linux)."""
    if not _STAT.is_file():
        return None
    ours = time.process_time() + sum(float(one.call(cpu_seconds)) for one in processes)
    return Usage(time.perf_counter(), busy_seconds(_STAT.read_text(), os.sysconf("SC_CLK_TCK")), ours)


def cpu_seconds(_: object) -> float:
    """To be called in a process: the processor's time that it has used."""
    return time.process_time()


def busy_seconds(stat: str, ticks: int) -> float:
    """The time that all processors were not idle, from the text of /proc/stat, in which a second has `ticks`."""
    columns = [int(value) for value in stat.splitlines()[0].split()[1 : _STEAL + 2]]
    return sum(value for number, value in enumerate(columns) if number not in _IDLE) / ticks


def share_of_others(before: Usage | None, after: Usage | None, processors: int) -> float | None:
    """The part, 0..1, of all processors' time between two moments that was used, but not by us."""
    if before is None or after is None:
        return None
    others = (after.all - before.all) - (after.ours - before.ours)
    return min(1.0, max(0.0, others / (after.clock - before.clock) / processors))


def remark(share: float | None) -> str | None:
    """What the reader must know; None if others took little, or if that is not known."""
    if share is None or share <= LARGEST_SHARE:
        return None
    return (
        f"the machine was busy: other programs took {share:.0%} of the processors' time, so times are too long, and "
        "parts of the limit may be too low"
    )
