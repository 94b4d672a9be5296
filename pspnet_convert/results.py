"""What commands return: the stages that ran, where their files are, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pspnet_convert.command_line import print_json
from pspnet_convert.errors import AccuracyError, ConvertError

if TYPE_CHECKING:
    from pspnet_convert.job import Job
    from pspnet_convert.stage import Outcome
    from pspnet_convert.workspace import Workspace


@dataclass(frozen=True)
class StagesResult:
    """The outcomes of a command's stages, in order. `paths`: where the model's files are.

    `failure` is the error that ends the command line's command, after its result is printed: a mismatch, a doubt, a
    loss of accuracy. A Python caller reads it, or the verdict.
    """

    outcomes: Sequence[Outcome]
    paths: Workspace
    failure: ConvertError | None = None

    @property
    def stages(self) -> Mapping[str, Outcome]:
        """The outcomes by stage."""
        return {outcome.stage: outcome for outcome in self.outcomes}

    @property
    def verdict(self) -> str | None:
        """pass, mismatch or inconclusive; None where these stages verify nothing."""
        verdicts = [getattr(outcome.result, "verdict", None) for outcome in self.outcomes]
        return next((verdict for verdict in verdicts if verdict is not None), None)

    def as_list(self) -> list[dict[str, Any]]:
        """Plain values for JSON."""
        return [outcome.as_dict() for outcome in self.outcomes]


def stages_result(
    job: Job, outcomes: Sequence[Outcome], failure_of: Callable[[Any], ConvertError | None] = lambda result: None
) -> StagesResult:
    """The result of `outcomes`; `failure_of` says of the last stage's result what is wrong with it."""
    return StagesResult(outcomes, job.workspace, failure_of(outcomes[-1].result))


def show_stages(result: StagesResult, as_json: bool) -> None:
    """Print what stages made."""
    from pspnet_convert.tables import print_table, stage_table

    if as_json:
        print_json(result.as_list())
    else:
        print_table(stage_table(result.outcomes, result.paths.folder))


def excess_drop(lost: Mapping[str, float], reference: str, allowed: float, advice: str) -> AccuracyError | None:
    """The error for the first model that has lost more than `allowed` points against `reference`; None without one."""
    for backend, drop in lost.items():
        if drop > allowed:
            return AccuracyError(f"{backend} is {drop:.2f} points below {reference}, {allowed:g} allowed", advice)
    return None
