"""`pspnet-convert quantize`."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pspnet_convert.command_line import Takes, command, print_json
from pspnet_convert.commands.quantize.options import EvaluateInt8Options, QuantizeOptions, VerifyInt8Options
from pspnet_convert.errors import ConvertError, InconclusiveError, MismatchError, OptionError
from pspnet_convert.job_options import OWN_MODEL, PLACE, RUN, JobOptions
from pspnet_convert.pipeline import SEARCH
from pspnet_convert.results import ModelPaths, StagesResult, excess_drop

if TYPE_CHECKING:
    from pspnet_convert.manifest_fields import EvaluateResult, VerifyInt8Result
    from pspnet_convert.stage import Outcome

_CALIBRATE = "Calibrate it with more images, or with images like those that the model will see (--calibration)."
_TIME = "Give it more time with --time-limit: what was tried is not tried again."


def _show(result: StagesResult, as_json: bool) -> None:
    from pspnet_convert.tables import (
        evaluation_table,
        int8_processors_table,
        int8_table,
        print_table,
        search_table,
        stage_table,
    )

    if as_json:
        print_json({"verdict": result.verdict, "stages": result.as_list()})
        return
    print_table(stage_table(result.outcomes, result.paths.folder))
    if SEARCH in result.stages:
        print_table(search_table(result.stages[SEARCH].result))
    verified = result.stages["verify-int8"].result
    print_table(int8_table(verified))
    by_processor = int8_processors_table(verified)
    if by_processor is not None:
        print_table(by_processor)
    if "evaluate-int8" in result.stages:
        print_table(evaluation_table(result.stages["evaluate-int8"].result))
    print(f"verdict: {result.verdict}   manifest: {result.paths.manifest}")


@command(
    Takes(JobOptions, *PLACE, *OWN_MODEL, *RUN),
    Takes(QuantizeOptions),
    Takes(VerifyInt8Options),
    Takes(EvaluateInt8Options),
    show=_show,
    example="pspnet-convert quantize demo --calibration photos --max-drop 1",
)
def quantize(
    asked: JobOptions, options: QuantizeOptions, verify: VerifyInt8Options, evaluate: EvaluateInt8Options
) -> StagesResult:
    """Quantize the FP32 IR to INT8 by NNCF, and compare the two: answers, bytes, time, and mIoU if asked for.

    Exit code 0: it agrees with the FP32 IR; 9: it does not; 10: inconclusive, the images show one class only; 16: it
    loses more than --max-drop.
    """
    from pspnet_convert.commands.evaluate.options import EvaluateOptions
    from pspnet_convert.commands.evaluate.stage import evaluate_stage, fitting_protocol
    from pspnet_convert.commands.quantize.calibrate import chosen_recipe
    from pspnet_convert.commands.quantize.search import Aim, Search
    from pspnet_convert.commands.quantize.stage import Calibration, fp32_ir, quantize_stage, verify_int8_stage
    from pspnet_convert.job import open_job, refuse_with_model
    from pspnet_convert.pipeline import INT8, in_order
    from pspnet_convert.processor import chosen_processors, has_vnni, this_processor
    from pspnet_convert.runtimes.devices import device_record

    refuse_with_model(asked, "the FP32 IR of MODEL has been converted")
    if evaluate.time_limit is not None and evaluate.max_drop is None:
        raise OptionError("--time-limit is for --max-drop: nothing else is tried without it")
    processors = chosen_processors(verify.processor, this_processor(), verify.device)  # refuses it before the work
    device_record(verify.device)  # the same
    both = EvaluateOptions(
        dataset=evaluate.dataset,
        backend=("FP32", "INT8"),
        device=verify.device,
        resume=evaluate.max_drop is not None,
    )
    with open_job(asked) as job:
        until = None if evaluate.time_limit is None else time.monotonic() + 60 * evaluate.time_limit
        recipe = chosen_recipe(fp32_ir(job), options)
        calibration = Calibration.of(job, options)

        def measure() -> Outcome:
            keep = () if evaluate.max_drop is None else ("IR FP32",)
            return job.run(evaluate_stage(job, fitting_protocol(job, both), "evaluate-int8", keep=keep))

        runs = {
            "quantize": lambda: job.run(quantize_stage(job, options, calibration, recipe)),
            "verify-int8": lambda: job.run(verify_int8_stage(job, verify, calibration)),
            "evaluate-int8": measure,
        }
        searched = None
        if evaluate.max_drop is not None:
            fp32 = fitting_protocol(job, replace(both, backend=("FP32",)))
            search = Search(job, options, calibration, measure, evaluate_stage(job, fp32, "evaluate-int8").inputs)
            searched = search.run(recipe, Aim(evaluate.max_drop, until, has_vnni(processors), verify.device))
            runs |= {"quantize": lambda: search.made, "evaluate-int8": search.measured}
        elif evaluate.dataset is None:
            del runs["evaluate-int8"]
        outcomes = [*([] if searched is None else [searched]), *in_order(INT8, runs)]
        found = {outcome.stage: outcome.result for outcome in outcomes}
        advice = _TIME if searched is not None and searched.result.not_tried else _CALIBRATE
        failure = _failure(found["verify-int8"], found.get("evaluate-int8"), evaluate.max_drop, advice)
        return StagesResult(outcomes, ModelPaths.of(job), failure)


def _failure(
    agreement: VerifyInt8Result, accuracy: EvaluateResult | None, max_drop: float | None, too_much: str
) -> ConvertError | None:
    if accuracy is not None and max_drop is not None:
        means = {score.backend: score.mean_iou for score in accuracy.scores}
        excess = excess_drop({"IR INT8": means["IR FP32"] - means["IR INT8"]}, "IR FP32", max_drop, too_much)
        if excess is not None:
            return excess
    if agreement.verdict == "mismatch":
        from pspnet_convert.runtimes.int8_overflow import OVERFLOW_FIX

        overflows = agreement.faults[0] in (row.fault for row in agreement.processors)
        advice = OVERFLOW_FIX if overflows else _CALIBRATE
        return MismatchError(f"the INT8 IR does not agree with the FP32 IR: {agreement.faults[0]}", advice)
    if agreement.verdict == "inconclusive":
        return InconclusiveError(
            "the FP32 IR sees one class everywhere, so that a wrong model could agree with it",
            "Name a folder with images of its classes with --calibration.",
        )
    return None
