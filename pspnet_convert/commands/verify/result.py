"""The result of a verification: for each converted model the checks, the pixels that differ, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.inputs import VerificationInput
from pspnet_convert.commands.verify.sensitivity import FINE_FAULTS
from pspnet_convert.manifest_fields import Check, Explanation, GoldenTolerance, UnexplainedPixel, Verdict
from pspnet_convert.runtimes.logit_error import NO_ERROR, Error, Precision

CHECKS: Mapping[str, str] = {
    "contract": "names, shapes, number types and layout are the expected ones, nothing else is dynamic, nothing unused",
    "as shipped": "the file as it is gives the labels that it gives with its logits as one more output",
    "argmax": "on drawn logits, some of them ties, the label is the first class with the largest logit",
    "labels": "labels are classes of the card, and each is the class with the largest logit",
    "logits": "logits are as near to the reference's as the precision allows; a binary head's threshold is equal to it",
    "outputs": "the outputs logits and probabilities, if any, are what the reference's logits give",
    "processor": "an INT8 model gives the answers that it gives with all instructions of this processor",
    "pixels": "where a label differs, the reference was undecided",
}


@dataclass
class Comparison:
    """One converted model against the reference, on all inputs. `pixels`, `differing` and `explained` are counts.

    `is_ir`: the preprocessing is in the model. `report_only`: the result does not affect the verdict. `processor`: the
    instruction set that it was capped to; `executed`: the one that its convolutions ran with. `device`: of an IR, as it
    was asked for; `ran_on`: the devices that did; `computed_in`: f32, bf16 or f16, as read back. `error`: against the
    reference; an FP16 IR's against the reference with its constants in FP16, where there is one. Then `from_reference`
    is the error against the reference itself.
    """

    backend: str
    precision: Precision
    is_ir: bool = False
    report_only: bool = False
    processor: str | None = None
    executed: str | None = None
    device: str | None = None
    ran_on: str | None = None
    computed_in: str | None = None
    pixels: int = 0
    differing: int = 0
    explained: int = 0
    largest_error: float = 0.0  # in logits
    error: Error = NO_ERROR
    allowed: Error = NO_ERROR  # on the input that allows most
    from_reference: Error | None = None
    faults: dict[str, list[str]] = field(default_factory=dict)  # by check
    unexplained: list[UnexplainedPixel] = field(default_factory=list)
    labels: dict[str, NDArray[np.uint8]] = field(default_factory=dict)  # by input
    explanation: Explanation | None = None  # of a mismatch

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
        """Plain values for JSON; None for an error that is not finite."""
        return {
            "backend": self.backend,
            "precision": self.precision,
            "informative": self.report_only,
            "processor": self.processor,
            "executed": self.executed,
            "device": self.device,
            "ran_on": self.ran_on,
            "computed_in": self.computed_in,
            "passed": self.passed,
            "pixels": self.pixels,
            "agreement": self.agreement,
            "differing": self.differing,
            "explained": self.explained,
            "largest_error": self.largest_error if np.isfinite(self.largest_error) else None,
            "relative_error": self.error.as_dict(),
            "allowed": self.allowed.as_dict(),
            "from_reference": self.from_reference.as_dict() if self.from_reference else None,
            "checks": [
                {"name": name, "what": what, "passed": name not in self.faults, "faults": self.faults.get(name, [])}
                for name, what in CHECKS.items()
            ],
            "explanation": None if self.explanation is None else self.explanation.model_dump(),
            "unexplained": [pixel.model_dump() for pixel in self.unexplained],
        }


@dataclass(frozen=True)
class Verification:
    """`classes_seen`: the class numbers that the reference found in any input. `labels`: its label maps, by input.

    `margins`: the bytes of golden.py, by input. `tolerances`: by precision.
    `sensitivity`: how far each small fault moves the reference's logits, on the input where it moves them most.
    `preprocessing`: whether mmsegmentation prepares images as the card says; None for a card without `testing`.
    """

    comparisons: Sequence[Comparison]
    inputs: Sequence[VerificationInput]
    classes_seen: Sequence[int]
    sensitivity: Mapping[str, Error]
    labels: Mapping[str, NDArray[np.uint8]]
    margins: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    tolerances: Mapping[str, GoldenTolerance] = field(default_factory=dict)
    preprocessing: Check | None = None

    @property
    def doubts(self) -> list[str]:
        """Why the inputs could not have shown a fault; empty if they could."""
        doubts = []
        # Two models that each see one class everywhere can agree and both be wrong.
        if len(self.classes_seen) < 2:
            doubts.append("the reference sees one class everywhere, so that a wrong model could agree with it")
        for comparison in (one for one in self._judged if one.precision != "INT8"):
            shown = self._shown_by_another(comparison)
            hidden = [
                name
                for name in self.sensitivity
                if name not in shown and self.sensitivity[name].within(comparison.allowed)
            ]
            if hidden:
                doubts.append(f"{comparison.backend}: no input would show this fault: {', '.join(hidden)}")
        return doubts

    def _shown_by_another(self, comparison: Comparison) -> set[str]:
        """The faults that another IR shows: an f32 one, and of one on a device the same on the CPU. Rounded weights and
        activations may hide them: they move the logits as far."""
        for other in self._judged:
            if comparison.backend == f"{other.backend} on {comparison.device}":
                shown = {name for name, error in self.sensitivity.items() if not error.within(other.allowed)}
                return shown | self._shown_by_another(other)
        has_f32 = any(other.is_ir and other.precision == "f32" for other in self._judged)
        return FINE_FAULTS if has_f32 and comparison.is_ir and comparison.precision != "f32" else set()

    @property
    def verdict(self) -> Verdict:
        if not all(comparison.passed for comparison in self._judged):
            return "mismatch"
        if self.preprocessing is not None and not self.preprocessing.passed:
            return "mismatch"
        return "pass" if self._judged and not self.doubts else "inconclusive"

    @property
    def _judged(self) -> list[Comparison]:
        return [comparison for comparison in self.comparisons if not comparison.report_only]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "verdict": self.verdict,
            "doubts": self.doubts,
            "preprocessing": self.preprocessing.model_dump() if self.preprocessing else None,
            "inputs": [entry.name for entry in self.inputs],
            "classes_seen": list(self.classes_seen),
            "sensitivity": {name: error.as_dict() for name, error in self.sensitivity.items()},
            "comparisons": [comparison.as_dict() for comparison in self.comparisons],
            "tolerances": {precision: one.model_dump() for precision, one in self.tolerances.items()},
        }
