"""What commands return: the stages that ran, where their files are, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.command_line import print_json
from pspnet_convert.errors import AccuracyError, ConvertError

if TYPE_CHECKING:
    from pspnet_convert.job import Job
    from pspnet_convert.stage import Outcome


@dataclass(frozen=True)
class ModelPaths:
    """Where the files of a model are. `irs`: the .xml of each current IR, by precision."""

    folder: Path
    onnx: Path
    irs: Mapping[str, Path]
    manifest: Path
    report: Path

    @classmethod
    def of(cls, job: Job) -> ModelPaths:
        """The places in the job's workspace. An IR of an earlier conversion is left out."""
        place = job.workspace
        irs = {precision: path for precision, path in place.irs.items() if not job.has_old_ir(precision)}
        return cls(place.folder, place.onnx, irs, place.manifest, place.report)


@dataclass(frozen=True)
class StagesResult:
    """The outcomes of a command's stages, in order.

    `failure`: the error that the command line raises after printing: mismatch, inconclusive, or too large a drop; else
    None.
    """

    outcomes: Sequence[Outcome]
    paths: ModelPaths
    failure: ConvertError | None = None

    @property
    def stages(self) -> Mapping[str, Outcome]:
        """The outcomes by stage."""
        return {outcome.stage: outcome for outcome in self.outcomes}

    @property
    def verdict(self) -> str | None:
        """pass, mismatch or inconclusive; drop where a model loses more mean IoU than allowed; None where these stages
        verify nothing."""
        if isinstance(self.failure, AccuracyError):
            return "drop"
        verdicts = [getattr(outcome.result, "verdict", None) for outcome in self.outcomes]
        return next((verdict for verdict in verdicts if verdict is not None), None)

    def as_list(self) -> list[dict[str, Any]]:
        """Plain values for JSON."""
        return [outcome.as_dict() for outcome in self.outcomes]


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
