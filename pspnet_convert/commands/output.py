"""What a command prints when it is done, as tables or JSON; and the error where the result is a failure.

The tables themselves are printing.py's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.errors import InconclusiveError, MismatchError

if TYPE_CHECKING:
    from pspnet_convert.job import Job, Outcome

_CALIBRATE = "Calibrate it with more pictures, or such as the model will see (--calibration)."


def print_outcomes(job: Job, outcomes: Sequence[Outcome], as_json: bool) -> None:
    """What stages made."""
    from pspnet_convert.tables import print_table, stage_table

    if as_json:
        print_json([outcome.as_dict() for outcome in outcomes])
    else:
        print_table(stage_table(outcomes, job.workspace.folder))


def remove_earlier(junit: Path | None) -> None:
    """Take away the file of an earlier verification: CI must not collect it where this one comes to no verdict."""
    if junit is not None:
        from pspnet_convert.files import refuse_special, writing

        refuse_special(junit)
        with writing(junit):
            junit.unlink(missing_ok=True)


def print_verified(job: Job, outcomes: Sequence[Outcome], as_json: bool, junit: Path | None) -> None:
    """What verify, the last of `outcomes`, found, on the terminal and into the file `junit`.

    MismatchError or InconclusiveError where its verdict is that.
    """
    from pspnet_convert.tables import print_table, stage_table, verification_table

    result = outcomes[-1].record.result
    if junit is not None:
        from pspnet_convert.files import write_text
        from pspnet_convert.verify.junit import junit_xml

        write_text(junit, junit_xml(job.card.name, result))
    if as_json:
        print_json({"verdict": result["verdict"], "stages": [outcome.as_dict() for outcome in outcomes]})
    else:
        if len(outcomes) > 1:
            print_table(stage_table(outcomes, job.workspace.folder))
        print_table(verification_table(result))
        print(f"verdict: {result['verdict']}   manifest: {job.workspace.manifest}")
        if len(outcomes) > 1:
            print(f"page: {job.workspace.report}")
    _raise_unless_equal(result)


def print_int8(job: Job, outcomes: Sequence[Outcome], max_drop: float | None, as_json: bool) -> None:
    """What quantize, verify-int8 and, if it ran, evaluate-int8 gave.

    MismatchError or InconclusiveError where the verdict is that, AccuracyError where more than `max_drop` is lost.
    """
    from pspnet_convert.evaluate.figures import check_drops, drop_between
    from pspnet_convert.tables import evaluation_table, int8_table, print_table, stage_table

    _, verified, *evaluated = outcomes
    result = verified.record.result
    if as_json:
        print_json({"verdict": result["verdict"], "stages": [outcome.as_dict() for outcome in outcomes]})
    else:
        print_table(stage_table(outcomes, job.workspace.folder))
        print_table(int8_table(result))
        for outcome in evaluated:
            print_table(evaluation_table(outcome.record.result))
        print(f"verdict: {result['verdict']}   manifest: {job.workspace.manifest}")
    _raise_unless_agreeing(result)
    if max_drop is not None:
        lost = drop_between(evaluated[0].record.result, "IR FP32", "IR INT8")
        check_drops(lost, "IR FP32", max_drop, _CALIBRATE)


def print_evaluated(outcome: Outcome, max_drop: float | None, as_json: bool) -> None:
    """What evaluate measured; AccuracyError where a model is more than `max_drop` points down."""
    from pspnet_convert.evaluate.figures import check_drops, drops
    from pspnet_convert.tables import class_table, evaluation_notes, evaluation_table, print_table

    result = outcome.record.result
    if as_json:
        print_json(outcome.as_dict())
    else:
        print_table(evaluation_table(result))
        print_table(class_table(result))
        for line in evaluation_notes(result):
            print(line)
    if max_drop is not None:
        advice = "Do not ship it, or allow more with --max-drop."
        check_drops(drops(result), result["reference"], max_drop, advice)


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def _raise_unless_equal(result: Mapping[str, Any]) -> None:
    if result["verdict"] == "mismatch":
        wrong = next(row for row in result["comparisons"] if not (row["passed"] or row["informative"]))
        faults = [f"{check['name']}: {fault}" for check in wrong["checks"] for fault in check["faults"]]
        raise MismatchError(
            f"{wrong['backend']} is not the reference's equal: {(faults or ['nothing compared'])[0]}",
            "Do not ship it; --json lists all faults, --save-diff draws them.",
        )
    if result["verdict"] == "inconclusive":
        raise InconclusiveError(
            (result["doubts"] or ["nothing was compared"])[0], "Add pictures of its classes with --images."
        )


def _raise_unless_agreeing(result: Mapping[str, Any]) -> None:
    if result["verdict"] == "mismatch":
        raise MismatchError(
            f"the INT8 IR does not agree with the FP32 IR: {result['faults'][0]}",
            _CALIBRATE,
        )
    if result["verdict"] == "inconclusive":
        raise InconclusiveError(
            "the FP32 IR sees one class everywhere, so that a wrong model could agree with it",
            "Name a folder with pictures of its classes with --calibration.",
        )
