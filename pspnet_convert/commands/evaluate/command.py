"""`pspnet-convert evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pspnet_convert.command_line import Takes, command, print_json
from pspnet_convert.commands.evaluate.options import EvaluateOptions
from pspnet_convert.job_options import CHECKPOINT, PLACE, RUN, JobOptions
from pspnet_convert.results import ModelPaths, StagesResult, excess_drop

if TYPE_CHECKING:
    from pspnet_convert.manifest_fields import Score


@dataclass(frozen=True)
class EvaluationResult(StagesResult):
    """The figures of each model, in per cent, are in `scores`."""

    @property
    def scores(self) -> Sequence[Score]:
        """One a model: mean_iou, pixel_accuracy, ious by class, and drop in points below the reference."""
        return self.outcomes[0].result.scores  # type: ignore[no-any-return]


def _show(result: EvaluationResult, as_json: bool) -> None:
    from pspnet_convert.tables import class_table, evaluation_notes, evaluation_table, print_table

    (outcome,) = result.outcomes
    if as_json:
        print_json(outcome.as_dict())
        return
    print_table(evaluation_table(outcome.result))
    print_table(class_table(outcome.result))
    for line in evaluation_notes(outcome.result):
        print(line)


@command(
    Takes(JobOptions, *PLACE, *CHECKPOINT, *RUN),
    Takes(EvaluateOptions),
    show=_show,
    example="pspnet-convert evaluate --dataset VOCdevkit/VOC2012 --protocol pad --max-drop 0.5",
)
def evaluate(asked: JobOptions, options: EvaluateOptions) -> EvaluationResult:
    """Measure the mean IoU of PyTorch, ONNX and IR on annotated images, all in one pass.

    Without --dataset, on the images that come with the model. --max-drop counts from PyTorch if it is evaluated in
    the same pass, else from the figure that the model's card states for the protocol.
    """
    from pspnet_convert.commands.evaluate.stage import evaluate_stage
    from pspnet_convert.job import open_job

    with open_job(asked) as job:
        outcome = job.run(evaluate_stage(job, options))
        failure = None
        if options.max_drop is not None:
            found = outcome.result
            lost = {score.backend: score.drop for score in found.scores if score.drop is not None}
            advice = "Do not ship it, or allow more with --max-drop."
            failure = excess_drop(lost, found.reference, options.max_drop, advice)
        return EvaluationResult([outcome], ModelPaths.of(job), failure)
