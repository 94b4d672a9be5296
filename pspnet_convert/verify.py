"""Compare converted models with the reference, pixel by pixel, and explain every pixel that differs.

A label may differ from the reference's only where the reference itself was undecided: where its margin (best
logit minus second best) is at most twice the logit error measured at that pixel. Two scores that are each off by
at most e can swap their order only if they are within 2 e.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.backends import Backend, Prediction
from pspnet_convert.verification_inputs import VerificationInput

Verdict = Literal["pass", "mismatch", "inconclusive"]

# Largest logit error allowed, relative to the largest reference logit of the input. float32 keeps 24 bits
# (6e-8); sixty layers that sum thousands of products in another order were measured at 1e-6 to 1e-5. FP16
# weights are rounded to 11 bits (5e-4 each), which the same layers carry to 1e-3 .. 4e-3.
TOLERANCES: Mapping[str, float] = {"ONNX": 1e-4, "IR FP32": 1e-4, "IR FP16": 1e-2}

_AT_ONCE = 8  # inputs whose reference logits are held in memory


@dataclass
class Comparison:
    """One converted model against the reference, over all inputs. Pixels are counted, logits are unitless."""

    backend: str
    tolerance: float
    pixels: int = 0
    differing: int = 0
    explained: int = 0
    largest_error: float = 0.0
    relative_error: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def agreement(self) -> float:
        """The share of pixels with the reference's label, 0..1."""
        return 1 - self.differing / self.pixels if self.pixels else 0.0

    @property
    def passed(self) -> bool:
        return not self.faults and self.pixels > 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an error that is not a number is None."""
        values = {**asdict(self), "agreement": self.agreement, "passed": self.passed}
        for name in ("largest_error", "relative_error"):
            values[name] = values[name] if np.isfinite(values[name]) else None
        return values


@dataclass(frozen=True)
class Verification:
    """`classes_seen` are the class numbers that the reference found in any input."""

    comparisons: Sequence[Comparison]
    inputs: Sequence[str]
    classes_seen: Sequence[int]

    @property
    def verdict(self) -> Verdict:
        if not all(comparison.passed for comparison in self.comparisons):
            return "mismatch"
        # A model that sees one thing everywhere agrees with any other that does.
        return "pass" if len(self.classes_seen) > 1 and self.comparisons else "inconclusive"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "verdict": self.verdict,
            "inputs": list(self.inputs),
            "classes_seen": list(self.classes_seen),
            "comparisons": [comparison.as_dict() for comparison in self.comparisons],
        }


def verify(
    open_reference: Callable[[], Backend],
    candidates: Mapping[str, Callable[[], Backend]],
    inputs: Sequence[VerificationInput],
    tolerances: Mapping[str, float] = TOLERANCES,
    note: Callable[[], None] = lambda: None,
) -> Verification:
    """Run the reference and then one candidate after another, so that memory holds one model at a time.

    `candidates` opens each by its name; `tolerances` has the largest relative logit error by the same names;
    `note` is called for each input that a model has done.
    """
    comparisons = {name: Comparison(name, tolerances[name]) for name in candidates}
    seen: set[int] = set()
    for start in range(0, len(inputs), _AT_ONCE):
        batch = inputs[start : start + _AT_ONCE]
        expected = _run_all(open_reference, batch, note)
        seen.update(*(np.unique(prediction.labels).tolist() for prediction in expected))
        for name in reversed(list(candidates)):  # ONNX Runtime, the first, gives its memory back late
            _compare_all(candidates[name], batch, expected, comparisons[name], note)
    return Verification(list(comparisons.values()), [entry.name for entry in inputs], sorted(seen))


def _run_all(
    open_backend: Callable[[], Backend], inputs: Sequence[VerificationInput], note: Callable[[], None]
) -> list[Prediction]:
    backend = open_backend()
    predictions = []
    for entry in inputs:
        predictions.append(backend.run(entry.image))
        note()
    return predictions


def _compare_all(
    open_backend: Callable[[], Backend],
    inputs: Sequence[VerificationInput],
    expected: Sequence[Prediction],
    comparison: Comparison,
    note: Callable[[], None],
) -> None:
    backend = open_backend()
    for entry, prediction in zip(inputs, expected):
        compare(prediction, backend.run(entry.image), entry.name, comparison)
        note()


def compare(expected: Prediction, found: Prediction, name: str, comparison: Comparison) -> None:
    """Add what `found` shows on the input `name` to `comparison`."""
    comparison.pixels += expected.labels.size
    if found.logits.shape != expected.logits.shape or found.labels.shape != expected.labels.shape:
        comparison.differing += expected.labels.size
        comparison.faults.append(f"{name}: logits {list(found.logits.shape)} instead of {list(expected.logits.shape)}")
        return
    error = np.abs(found.logits - expected.logits).max(axis=0)  # [H, W], over the classes
    error[~np.isfinite(error)] = np.inf
    differs = found.labels != expected.labels
    explained = differs & (margin(expected.logits) <= 2 * error) & np.isfinite(error)
    largest = float(error.max())
    relative = largest / max(float(np.abs(expected.logits).max()), float(np.finfo(np.float32).tiny))
    comparison.differing += int(differs.sum())
    comparison.explained += int(explained.sum())
    comparison.largest_error = max(comparison.largest_error, largest)
    comparison.relative_error = max(comparison.relative_error, relative)
    if relative > comparison.tolerance:
        comparison.faults.append(f"{name}: logit error {relative:.1e} relative, {comparison.tolerance:.0e} allowed")
    unexplained = np.argwhere(differs & ~explained)
    if len(unexplained):
        y, x = unexplained[0]
        comparison.faults.append(
            f"{name}: {len(unexplained)} differing pixels unexplained, first x={x} y={y}: "
            f"class {int(found.labels[y, x])} instead of {int(expected.labels[y, x])}"
        )


def margin(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """[classes, H, W] to [H, W]: each pixel's best logit minus its second best."""
    second, best = np.partition(logits, -2, axis=0)[-2:]
    return best - second
