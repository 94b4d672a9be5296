"""Compare converted models with the reference, pixel by pixel, and explain every pixel that differs.

A label may differ from the reference's only where the reference was undecided: where its margin (best logit minus
second best) is at most twice the logit error measured at that pixel. Two scores that are each off by at most e can
swap their order only if they are within 2 e. So an unexplained label is not the largest of its model's own logits:
the checks `labels` and `pixels` see this fault from two sides, and `logits` bounds the error itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.answers import RUNTIME, Answers
from pspnet_convert.commands.verify.candidates import Candidate
from pspnet_convert.commands.verify.checks import (
    check_argmax,
    check_as_shipped,
    check_labels,
    check_outputs,
    check_processor,
    check_threshold,
    drawn_for,
)
from pspnet_convert.commands.verify.golden import golden_margins, golden_tolerances, margin
from pspnet_convert.commands.verify.inputs import VerificationInput
from pspnet_convert.commands.verify.reference import Expected
from pspnet_convert.commands.verify.result import Comparison, Verification
from pspnet_convert.commands.verify.tolerances import allowed
from pspnet_convert.errors import ArtifactError, ContractError
from pspnet_convert.manifest_fields import UnexplainedPixel
from pspnet_convert.runtimes.backends import Prediction
from pspnet_convert.runtimes.logit_error import Error, Precision, error_of, worst

_LISTED = 20  # unexplained pixels of a model


def compare_with_reference(
    expected: Sequence[Expected],
    answered: Sequence[tuple[Candidate, Answers | ArtifactError]],
    inputs: Sequence[VerificationInput],
    classes: int,
    threshold: float | None = None,
) -> Verification:
    """Compare what the candidates answered with what the reference gave.

    `expected`: the reference's answers, one an input. `classes`: the number of the card's classes. `threshold`: a
    binary head's, as a score. An ArtifactError in place of answers is raised, unless it is a finding about the model.
    """
    seen: set[int] = set()
    sensitivity: dict[str, Error] = {}
    labels = {}
    for entry, answer in zip(inputs, expected):
        labels[entry.name] = answer.prediction.labels.astype(np.uint8)
        seen.update(np.unique(answer.prediction.labels).tolist())
        sensitivity = {name: worst(error, sensitivity.get(name, error)) for name, error in answer.sensitivity.items()}
    names = [entry.name for entry in inputs]
    margins = {name: golden_margins(answer.prediction.logits) for name, answer in zip(names, expected)}
    comparisons = [_compare_all(*one, names, expected, classes, threshold) for one in answered]
    for (candidate, found), comparison in zip(answered, comparisons):
        if comparison.precision == "INT8" and candidate.processor is not None and isinstance(found, Answers):
            check_processor(found, _uncapped(candidate, answered), names, comparison)
    tolerances = golden_tolerances(expected)
    return Verification(comparisons, inputs, sorted(seen), sensitivity, labels, margins, tolerances)


def _uncapped(candidate: Candidate, answered: Sequence[tuple[Candidate, Answers | ArtifactError]]) -> Answers:
    """The same model's answers on this processor as it is; raises the error that it ended with."""
    (found,) = (found for other, found in answered if other.model == candidate.model and other.processor is None)
    if isinstance(found, ArtifactError):
        raise found
    return found


def _compare_all(
    candidate: Candidate,
    answers: Answers | ArtifactError,
    names: Sequence[str],
    expected: Sequence[Expected],
    classes: int,
    threshold: float | None,
) -> Comparison:
    """The results of a candidate on all inputs, which have `names`."""
    if isinstance(answers, ArtifactError):
        # A candidate that is only reported must not end the verification.
        if not (candidate.report_only or isinstance(answers, ContractError)):
            raise answers
        name = candidate.name_at("the default precision")
        comparison = Comparison(name, candidate.claims or "f32", candidate.is_ir, candidate.report_only)
        comparison.device = candidate.device
        comparison.add_fault("contract", answers.what)
        return comparison
    comparison = Comparison(
        candidate.name_at(answers.computed_in),
        answers.precision,
        candidate.is_ir,
        candidate.report_only,
        candidate.processor,
        answers.executed,
        candidate.device,
        answers.ran_on if candidate.is_ir else None,
        answers.computed_in if candidate.is_ir else None,
    )
    # In fewer bits, the drawn logits have other ties, and a threshold is rounded.
    is_exact = answers.computed_in == "f32" and not candidate.report_only
    if is_exact:
        shape = (classes, *expected[0].prediction.labels.shape)
        check_argmax(answers.drawn, drawn_for(shape, threshold), comparison)
    for name, known, shipped, found in zip(names, expected, answers.as_shipped, answers.predictions, strict=True):
        prediction = found.loaded()
        if threshold is not None and is_exact:
            check_threshold(prediction, name, threshold, comparison)
        compare(known, prediction, name, comparison)
        check_labels(prediction, name, classes, comparison)
        check_as_shipped(shipped.labels, prediction, name, comparison)
        if shipped.files:
            logits, limit = _standard_of_outputs(known, prediction, answers)
            check_outputs(shipped, logits, limit, threshold is not None, name, comparison)
        comparison.labels[name] = found.labels.astype(np.uint8)
    if comparison.precision == "INT8" and comparison.agreement < candidate.min_agreement:
        words = f"the same label at {comparison.agreement:.2%} of the pixels, {candidate.min_agreement:.2%} required"
        comparison.add_fault("pixels", words)
    return comparison


def compare(expected: Expected, found: Prediction, name: str, comparison: Comparison) -> None:
    """Add the checks `logits` and `pixels` of `found`, on the input `name`, to `comparison`."""
    labels, logits = expected.prediction.labels, expected.prediction.logits
    comparison.pixels += labels.size
    if found.logits.shape != logits.shape or found.labels.shape != labels.shape:
        comparison.differing += labels.size
        comparison.add_fault("logits", f"{name}: {list(found.logits.shape)} instead of {list(logits.shape)}")
        return
    at_pixel = np.abs(found.logits - logits).max(axis=0)  # [H, W], over the classes
    at_pixel[~np.isfinite(at_pixel)] = np.inf
    against, limit = _standard(expected, comparison.precision)
    error = error_of(found.logits, logits)
    if against is not None:
        comparison.from_reference = worst(error, comparison.from_reference or error)
        error = error_of(found.logits, against)
    comparison.largest_error = max(comparison.largest_error, float(at_pixel.max()))
    comparison.error = worst(comparison.error, error)
    comparison.allowed = worst(comparison.allowed, limit)
    if not error.within(limit):
        comparison.add_fault(
            "logits",
            f"{name}: logit error {error.rms:.1e} rms and {error.largest:.1e} largest, relative"
            f"{'' if against is None else ' to the reference with FP16 weights'}; "
            f"{limit.rms:.1e} and {limit.largest:.1e} allowed",
        )
    differs = found.labels != labels
    margins, errors = margin(logits[:, differs]), at_pixel[differs]
    explained = (margins <= 2 * errors) & np.isfinite(errors)
    comparison.differing += len(explained)
    comparison.explained += int(explained.sum())
    places, unexplained = np.argwhere(differs), np.flatnonzero(~explained)
    pixels = [
        UnexplainedPixel(
            image=name,
            x=int(x),
            y=int(y),
            label=int(found.labels[y, x]),
            expected=int(labels[y, x]),
            margin=float(margins[number]),
        )
        for number, (y, x) in zip(unexplained[:_LISTED], places[unexplained[:_LISTED]])
    ]
    comparison.unexplained.extend(pixels[: _LISTED - len(comparison.unexplained)])
    if pixels:
        first = pixels[0]
        comparison.add_fault(
            "pixels",
            f"{name}: {len(unexplained)} differing pixels unexplained, first x={first.x} y={first.y}: "
            f"class {first.label} instead of {first.expected}",
        )


def _standard_of_outputs(
    known: Expected, prediction: Prediction, answers: Answers
) -> tuple[NDArray[np.float32], Error]:
    """The logits that a model's own outputs are held to, and the error that is allowed.

    How far an INT8 model's logits may be from the reference's has no limit: its outputs must be its own logits'.
    """
    if answers.precision == "INT8":
        return prediction.logits, allowed(RUNTIME.get(answers.computed_in, "f32"), known.rounding)
    against, limit = _standard(known, answers.precision)
    return known.prediction.logits if against is None else against, limit


def _standard(expected: Expected, precision: Precision) -> tuple[NDArray[np.float32] | None, Error]:
    """The logits that a model of this precision is held to, if they are not the reference's own; and the error that is
    allowed."""
    if precision == "FP16" and expected.in_fp16 is not None:
        return expected.in_fp16.logits, allowed("f32", expected.rounding)
    return None, allowed(precision, expected.rounding)
