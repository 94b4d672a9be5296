"""What a verification means to the caller: what is printed, and the error where it did not pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pspnet_convert.command_line import print_json
from pspnet_convert.device import CPU
from pspnet_convert.errors import ConvertError, InconclusiveError, MismatchError
from pspnet_convert.results import StagesResult

if TYPE_CHECKING:
    from pspnet_convert.manifest_fields import VerifyResult


def show_verification(result: StagesResult, as_json: bool) -> None:
    """Print the files of the earlier stages, then the result of verify."""
    from pspnet_convert.tables import print_table, processors_table, stage_table, verification_table

    if as_json:
        print_json({"verdict": result.verdict, "stages": result.as_list()})
        return
    several = len(result.outcomes) > 1
    if several:
        print_table(stage_table(result.outcomes, result.paths.folder))
    verification: VerifyResult = result.stages["verify"].result
    print_table(verification_table(verification))
    by_processor = processors_table(verification)
    if by_processor is not None:
        print_table(by_processor)
    for row in verification.comparisons:
        if row.explanation is not None:
            print(f"{row.backend}: {row.explanation.words}")
            if row.explanation.layer is not None and row.explanation.layer.folder is not None:
                print(f"the layer as a small model: {row.explanation.layer.folder}")
    if verification.preprocessing is not None:
        check = verification.preprocessing
        print(f"{check.name}: {'pass' if check.passed else 'FAIL'}: {check.what}")
    print(f"verdict: {result.verdict}   manifest: {result.paths.manifest}")
    if several:
        print(f"page: {result.paths.report}")


def failure_of_verification(result: VerifyResult) -> ConvertError | None:
    """The error for a verification that did not pass."""
    if result.verdict == "mismatch":
        wrong = next((row for row in result.comparisons if not (row.passed or row.report_only)), None)
        if wrong is None:
            return _wrong_preprocessing(result)
        faults = [f"{check.name}: {fault}" for check in wrong.checks for fault in check.faults]
        advice = "Do not ship it; --json lists all faults, --save-diff draws them."
        if any(check.name == "processor" and not check.passed for check in wrong.checks):
            from pspnet_convert.runtimes.int8_overflow import OVERFLOW_FIX

            advice = f"Do not ship it to such processors. {OVERFLOW_FIX}"
        elif wrong.device not in (None, CPU):
            # The same IR on the CPU is an earlier row, which has passed.
            advice = f"Do not ship it to {wrong.device}. On the CPU the IR is right: look for a newer driver."
        than = "itself" if wrong.processor and faults and faults[0].startswith("processor: ") else "the reference"
        what = f"{wrong.backend} differs from {than}: {(faults or ['nothing compared'])[0]}"
        return MismatchError(f"{what}. {wrong.explanation.words}" if wrong.explanation else what, advice)
    if result.verdict == "inconclusive":
        doubt = (result.doubts or ["nothing was compared"])[0]
        return InconclusiveError(doubt, "Add images of its classes with --images.")
    return None


def _wrong_preprocessing(result: VerifyResult) -> MismatchError:
    faults = result.preprocessing.faults if result.preprocessing else []
    return MismatchError(
        f"preprocessing differs from mmsegmentation's: {(faults or ['unknown'])[0]}",
        "Correct the card's input or testing, and convert again.",
    )


def remove_earlier(junit: Path | None) -> None:
    """Remove the file of an earlier verification: CI must not collect it where this one reaches no verdict."""
    if junit is not None:
        from pspnet_convert.files import refuse_special, writing

        refuse_special(junit)
        with writing(junit):
            junit.unlink(missing_ok=True)
