"""When a source is tried again, and how long to wait before that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pspnet_convert.commands.download.partial_file import TryAgain

if TYPE_CHECKING:
    import tenacity


@dataclass(frozen=True)
class Patience:
    """The limits for a source: attempts in a row that bring nothing new, and times in seconds."""

    attempts: int = 4
    connect_s: float = 10
    read_s: float = 30
    first_wait_s: float = 1
    longest_wait_s: float = 30


PATIENCE = Patience()


def retrying(patience: Patience, note: Callable[[str], None]) -> tenacity.Retrying:
    """What calls a function until it raises no TryAgain, or patience ends; `note` is called before each wait."""
    import tenacity

    def note_retry(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None and state.next_action is not None
        note(f"{state.outcome.exception()}; trying again in {state.next_action.sleep:.0f} s")

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TryAgain),
        stop=tenacity.stop_after_attempt(patience.attempts),
        wait=_waits(patience),
        before_sleep=note_retry,
        reraise=True,
    )


def _waits(patience: Patience) -> Callable[[tenacity.RetryCallState], float]:
    import tenacity

    backoff = tenacity.wait_exponential(patience.first_wait_s) + tenacity.wait_random(0, patience.first_wait_s)

    def seconds(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait_s if isinstance(error, TryAgain) else None
        return min(backoff(state) if asked is None else asked, patience.longest_wait_s)

    return seconds
