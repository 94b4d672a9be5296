"""Compare converted models with the reference, pixel by pixel, and explain every pixel that differs.

A label may differ from the reference's only where the reference itself was undecided: where its margin (best
logit minus second best) is at most twice the logit error measured at that pixel. Two scores that are each off by
at most e can swap their order only if they are within 2 e. So a label that differs unexplained is not the largest of
its own logits: the checks `labels` and `pixels` see one fault from two sides, and `logits` bounds the error itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.inputs import VerificationInput, drawn_logits
from pspnet_convert.commands.verify.reference import FINE_FAULTS, Expected
from pspnet_convert.commands.verify.tolerances import allowed
from pspnet_convert.errors import ArtifactError, ContractError
from pspnet_convert.runtimes.backends import Converted, Prediction
from pspnet_convert.runtimes.input_form import batch_sizes
from pspnet_convert.runtimes.logit_error import NO_ERROR, Error, Precision, error_of, worst

Verdict = Literal["pass", "mismatch", "inconclusive"]
Expect = Callable[[Sequence[VerificationInput]], list[Expected]]

CHECKS: Mapping[str, str] = {
    "contract": "names, shapes, number types and layout are as asked for, nothing else is dynamic, nothing unused",
    "argmax": "of drawn logits, ties among them, the label is the first of the largest",
    "labels": "labels are classes of the card, and each is the one of the largest logit",
    "logits": "logits are as near to the reference's as the precision allows",
    "pixels": "where a label differs, the reference was undecided",
}
_AT_ONCE = 8  # inputs whose reference logits are held in memory, or more to fill a model's slots
_LISTED = 20  # unexplained pixels a model


@dataclass(frozen=True)
class Candidate:
    """A converted model by its `name`, opened when its turn comes. `precision` says how near its logits must be.

    Of an `informative` one, the result is told and nothing follows from it. `is_ir`: the preprocessing is in it.
    """

    name: str
    precision: Precision
    open: Callable[[], Converted]
    is_ir: bool = False
    informative: bool = False


@dataclass(frozen=True)
class UnexplainedPixel:
    """Labels are class numbers; `margin` is the reference's, in logits."""

    image: str
    x: int
    y: int
    label: int
    expected: int
    margin: float


@dataclass
class Comparison:
    """One converted model against the reference, over all inputs. Pixels are counted."""

    backend: str
    precision: Precision
    is_ir: bool = False
    informative: bool = False
    pixels: int = 0
    differing: int = 0
    explained: int = 0
    largest_error: float = 0.0  # in logits
    error: Error = NO_ERROR
    allowed: Error = NO_ERROR  # on the input that allows most
    faults: dict[str, list[str]] = field(default_factory=dict)  # by check
    unexplained: list[UnexplainedPixel] = field(default_factory=list)
    labels: dict[str, NDArray[np.uint8]] = field(default_factory=dict)  # by input

    @property
    def agreement(self) -> float:
        """The share of pixels with the reference's label, 0..1."""
        return 1 - self.differing / self.pixels if self.pixels else 0.0

    @property
    def passed(self) -> bool:
        return not self.faults and self.pixels > 0

    def add_fault(self, check: str, words: str) -> None:
        self.faults.setdefault(check, []).append(words)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an error that is not a number is None."""
        return {
            "backend": self.backend,
            "precision": self.precision,
            "informative": self.informative,
            "passed": self.passed,
            "pixels": self.pixels,
            "agreement": self.agreement,
            "differing": self.differing,
            "explained": self.explained,
            "largest_error": self.largest_error if np.isfinite(self.largest_error) else None,
            "relative_error": self.error.as_dict(),
            "allowed": self.allowed.as_dict(),
            "checks": [
                {"name": name, "what": what, "passed": name not in self.faults, "faults": self.faults.get(name, [])}
                for name, what in CHECKS.items()
            ],
            "unexplained": [asdict(pixel) for pixel in self.unexplained],
        }


@dataclass(frozen=True)
class Verification:
    """`classes_seen` are the class numbers that the reference found in any input; `sensitivity` is how far each small
    fault moves its logits on the input where it moves them most; `labels` are the reference's, by input."""

    comparisons: Sequence[Comparison]
    inputs: Sequence[VerificationInput]
    classes_seen: Sequence[int]
    sensitivity: Mapping[str, Error]
    labels: Mapping[str, NDArray[np.uint8]]

    @property
    def doubts(self) -> list[str]:
        """Why the inputs could not have shown a fault; empty if they could."""
        doubts = []
        # A model that sees one thing everywhere agrees with any other that does.
        if len(self.classes_seen) < 2:
            doubts.append("the reference sees one class everywhere, so that a wrong model could agree with it")
        for comparison in self._judged:
            unseen = self._shown_by_another(comparison)
            blind = [
                name
                for name in self.sensitivity
                if name not in unseen and self.sensitivity[name].within(comparison.allowed)
            ]
            if blind:
                doubts.append(f"{comparison.backend}: no input would show this fault: {', '.join(blind)}")
        return doubts

    def _shown_by_another(self, comparison: Comparison) -> set[str]:
        """Rounded weights may move the logits as far as a fine fault does; an f32 IR beside them shows that."""
        beside = any(other.is_ir and other.precision == "f32" for other in self._judged)
        return FINE_FAULTS if beside and comparison.is_ir and comparison.precision != "f32" else set()

    @property
    def verdict(self) -> Verdict:
        if not all(comparison.passed for comparison in self._judged):
            return "mismatch"
        return "pass" if self._judged and not self.doubts else "inconclusive"

    @property
    def _judged(self) -> list[Comparison]:
        return [comparison for comparison in self.comparisons if not comparison.informative]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "verdict": self.verdict,
            "doubts": self.doubts,
            "inputs": [entry.name for entry in self.inputs],
            "classes_seen": list(self.classes_seen),
            "sensitivity": {name: error.as_dict() for name, error in self.sensitivity.items()},
            "comparisons": [comparison.as_dict() for comparison in self.comparisons],
        }


def compare_with_reference(
    expect: Expect,
    candidates: Sequence[Candidate],
    inputs: Sequence[VerificationInput],
    classes: int,
    note: Callable[[], None] = lambda: None,
    *,
    batch: int = 1,
) -> Verification:
    """Run the reference (`expect`) and then one candidate after another, so that memory holds one model at a time.

    `classes` is how many the card has; `note` is called for each input that a candidate has done. `batch` is the
    candidates': of the first inputs each is shown in a slot of its own.
    """
    comparisons = {one.name: Comparison(one.name, one.precision, one.is_ir, one.informative) for one in candidates}
    seen: set[int] = set()
    sensitivity: dict[str, Error] = {}
    labels = {}
    slots = sum(batch_sizes(batch))
    at_once = slots * -(-_AT_ONCE // slots)
    for start in range(0, len(inputs), at_once):
        shown = inputs[start : start + at_once]
        expected = expect(shown)
        for entry, answer in zip(shown, expected):
            labels[entry.name] = answer.prediction.labels.astype(np.uint8)
            seen.update(np.unique(answer.prediction.labels).tolist())
            sensitivity = {
                name: worst(error, sensitivity.get(name, error)) for name, error in answer.sensitivity.items()
            }
        for candidate in reversed(candidates):  # ONNX Runtime, the first, gives its memory back late
            _compare_all(candidate, shown, expected, classes, comparisons[candidate.name], note)
    return Verification(list(comparisons.values()), inputs, sorted(seen), sensitivity, labels)


def _compare_all(
    candidate: Candidate,
    inputs: Sequence[VerificationInput],
    expected: Sequence[Expected],
    classes: int,
    comparison: Comparison,
    note: Callable[[], None],
) -> None:
    """Add to `comparison` what these inputs show; nothing where earlier ones have shown that the contract is broken."""
    if "contract" in comparison.faults:
        return
    try:
        backend = candidate.open()
        if not candidate.informative and not comparison.pixels:  # once, not with each batch
            _check_argmax(backend, expected[0].prediction.logits.shape, comparison)
        for entry, answer, found in zip(inputs, expected, backend.run(entry.image for entry in inputs)):
            compare(answer, found, entry.name, comparison)
            _check_labels(found, entry.name, classes, comparison)
            comparison.labels[entry.name] = found.labels.astype(np.uint8)
            note()
    except ArtifactError as error:
        # Nothing follows from an informative one, an end of the verification neither.
        if not (candidate.informative or isinstance(error, ContractError)):
            raise
        comparison.add_fault("contract", error.what)


def compare(expected: Expected, found: Prediction, name: str, comparison: Comparison) -> None:
    """Add what `found` shows on the input `name` to `comparison`: the checks `logits` and `pixels`."""
    labels, logits = expected.prediction.labels, expected.prediction.logits
    comparison.pixels += labels.size
    if found.logits.shape != logits.shape or found.labels.shape != labels.shape:
        comparison.differing += labels.size
        comparison.add_fault("logits", f"{name}: {list(found.logits.shape)} instead of {list(logits.shape)}")
        return
    at_pixel = np.abs(found.logits - logits).max(axis=0)  # [H, W], over the classes
    at_pixel[~np.isfinite(at_pixel)] = np.inf
    error, may_be = error_of(found.logits, logits), allowed(comparison.precision, expected.rounding)
    comparison.largest_error = max(comparison.largest_error, float(at_pixel.max()))
    comparison.error = worst(comparison.error, error)
    comparison.allowed = worst(comparison.allowed, may_be)
    if not error.within(may_be):
        comparison.add_fault(
            "logits",
            f"{name}: logit error {error.rms:.1e} rms and {error.largest:.1e} largest, relative; "
            f"{may_be.rms:.1e} and {may_be.largest:.1e} allowed",
        )
    differs = found.labels != labels
    margins, errors = margin(logits[:, differs]), at_pixel[differs]
    explained = (margins <= 2 * errors) & np.isfinite(errors)
    comparison.differing += len(explained)
    comparison.explained += int(explained.sum())
    places, left = np.argwhere(differs), np.flatnonzero(~explained)
    pixels = [
        UnexplainedPixel(name, int(x), int(y), int(found.labels[y, x]), int(labels[y, x]), float(margins[number]))
        for number, (y, x) in zip(left[:_LISTED], places[left[:_LISTED]])
    ]
    comparison.unexplained.extend(pixels[: _LISTED - len(comparison.unexplained)])
    if pixels:
        first = pixels[0]
        comparison.add_fault(
            "pixels",
            f"{name}: {len(left)} differing pixels unexplained, first x={first.x} y={first.y}: class {first.label} "
            f"instead of {first.expected}",
        )


def margin(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """[classes, ...] to [...]: each pixel's best logit minus its second best."""
    second, best = np.partition(logits, -2, axis=0)[-2:]
    return best - second


def _check_argmax(backend: Converted, shape: Sequence[int], comparison: Comparison) -> None:
    logits = np.stack([np.roll(drawn_logits(*shape), slot, axis=-1) for slot in range(backend.slots)])
    try:
        labels = backend.argmax(logits)
    except ArtifactError as error:
        comparison.add_fault("argmax", error.what)
        return
    if labels.shape != (len(logits), *logits.shape[2:]):
        comparison.add_fault("argmax", f"gives labels {list(labels.shape)} for logits {list(logits.shape)}")
        return
    for its_logits, its_labels in zip(logits, labels):
        wrong = _first(its_labels != its_logits.argmax(axis=0))
        if wrong is not None:
            y, x = wrong
            values = ", ".join(f"{value:g}" for value in its_logits[:, y, x])
            comparison.add_fault("argmax", f"of the logits {values} it takes class {int(its_labels[y, x])}")
            return


def _check_labels(found: Prediction, name: str, classes: int, comparison: Comparison) -> None:
    low, high = int(found.labels.min()), int(found.labels.max())
    if low < 0 or high >= classes:
        comparison.add_fault("labels", f"{name}: labels {low}..{high}, the card's classes are 0..{classes - 1}")
    elif found.labels.shape == found.logits.shape[1:] and found.logits.shape[0] > high:
        own = np.take_along_axis(found.logits, found.labels[None].astype(np.int64), axis=0)[0]
        wrong = _first(own < found.logits.max(axis=0))
        if wrong is not None:
            y, x = wrong
            comparison.add_fault(
                "labels", f"{name}: x={x} y={y}: class {int(found.labels[y, x])} has not its largest logit"
            )


def _first(wrong: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Row and column of the first True."""
    places = np.argwhere(wrong)
    return (int(places[0][0]), int(places[0][1])) if len(places) else None
