"""Compare converted models with the reference, pixel by pixel, and explain every pixel that differs.

A label may differ from the reference's only where the reference was undecided: where its margin (best logit minus
second best) is at most twice the logit error measured at that pixel. Two scores that are each off by at most e can
swap their order only if they are within 2 e. So an unexplained label is not the largest of its model's own logits:
the checks `labels` and `pixels` see this fault from two sides, and `logits` bounds the error itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.checks import check_argmax, check_labels, check_threshold
from pspnet_convert.commands.verify.inputs import VerificationInput
from pspnet_convert.commands.verify.reference import Expected
from pspnet_convert.commands.verify.result import Comparison, Verification
from pspnet_convert.commands.verify.tolerances import allowed
from pspnet_convert.errors import ArtifactError, ContractError
from pspnet_convert.manifest_fields import UnexplainedPixel
from pspnet_convert.runtimes.backends import Converted, Prediction
from pspnet_convert.runtimes.logit_error import Error, Precision, error_of, worst

_LISTED = 20  # unexplained pixels of a model


@dataclass(frozen=True)
class Candidate:
    """A converted model. `open` loads it; `precision` decides how near its logits must be.

    `is_ir`: the preprocessing is in the model. `report_only`: the result is reported and does not affect the verdict.
    """

    name: str
    precision: Precision
    open: Callable[[], Converted]
    is_ir: bool = False
    report_only: bool = False


def compare_with_reference(
    expected: Sequence[Expected],
    candidates: Sequence[Candidate],
    inputs: Sequence[VerificationInput],
    classes: int,
    note: Callable[[], None] = lambda: None,
    threshold: float | None = None,
) -> Verification:
    """Compare the candidates, one after another, with what the reference gave: one model is in memory at a time.

    `expected`: the reference's answers, one an input. `classes`: the number of the card's classes. `note` is called
    after each input of each candidate. `threshold`: a binary head's, as a score.
    """
    comparisons = {one.name: Comparison(one.name, one.precision, one.is_ir, one.report_only) for one in candidates}
    seen: set[int] = set()
    sensitivity: dict[str, Error] = {}
    labels = {}
    for entry, answer in zip(inputs, expected):
        labels[entry.name] = answer.prediction.labels.astype(np.uint8)
        seen.update(np.unique(answer.prediction.labels).tolist())
        sensitivity = {name: worst(error, sensitivity.get(name, error)) for name, error in answer.sensitivity.items()}
    for candidate in reversed(candidates):  # ONNX Runtime, the first one, frees its memory late
        _compare_all(candidate, inputs, expected, classes, comparisons[candidate.name], note, threshold)
    return Verification(list(comparisons.values()), inputs, sorted(seen), sensitivity, labels)


def _compare_all(
    candidate: Candidate,
    inputs: Sequence[VerificationInput],
    expected: Sequence[Expected],
    classes: int,
    comparison: Comparison,
    note: Callable[[], None],
    threshold: float | None,
) -> None:
    """Add the results on all inputs to `comparison`."""
    try:
        backend = candidate.open()
        if not candidate.report_only:
            check_argmax(backend, (classes, *expected[0].prediction.labels.shape), comparison, threshold)
        for entry, answer, found in zip(inputs, expected, backend.run(entry.image for entry in inputs)):
            if threshold is not None and not candidate.report_only:
                check_threshold(found, entry.name, threshold, comparison)
            compare(answer, found, entry.name, comparison)
            check_labels(found, entry.name, classes, comparison)
            comparison.labels[entry.name] = found.labels.astype(np.uint8)
            note()
    except ArtifactError as error:
        # A candidate that is only reported must not end the verification.
        if not (candidate.report_only or isinstance(error, ContractError)):
            raise
        comparison.add_fault("contract", error.what)


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


def _standard(expected: Expected, precision: Precision) -> tuple[NDArray[np.float32] | None, Error]:
    """The logits that a model of this precision is held to, if they are not the reference's own; and the error that is
    allowed."""
    if precision == "FP16" and expected.in_fp16 is not None:
        return expected.in_fp16.logits, allowed("f32", expected.rounding)
    return None, allowed(precision, expected.rounding)


def margin(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each pixel's best logit minus its second best: [classes, ...] to [...]."""
    second, best = np.partition(logits, -2, axis=0)[-2:]
    return best - second
