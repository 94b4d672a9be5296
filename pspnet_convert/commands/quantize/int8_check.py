"""Compare an INT8 IR with the FP32 IR it was made from: labels, size and time.

The two are not equal, so less is required than of other models: the card's inputs and outputs, finite logits, and the
same label at most pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pspnet_convert.files import printable_name
from pspnet_convert.manifest_fields import Latency
from pspnet_convert.processor import capped, executed_instructions
from pspnet_convert.runtimes.backends import Backend, OpenVinoBackend, Prediction
from pspnet_convert.runtimes.child_model import ChildModel, OpenModel
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.int8_overflow import overflow
from pspnet_convert.runtimes.logit_error import NO_ERROR, Error, error_of, worst
from pspnet_convert.runtimes.model_images import ModelImages
from pspnet_convert.runtimes.timing import Subject, seconds_in_turns
from pspnet_convert.worker_process import Limits
from pspnet_convert.workspace import INT8

ROUNDS = 5
_SUBJECTS = (("FP32", "f32"), ("FP32", "default"), (INT8, "default"))


@dataclass
class Int8Check:
    """The INT8 IR's results against the FP32 IR's, on all `inputs`; `min_agreement` is a share, 0..1. `processors`: the
    others that it runs on."""

    min_agreement: float
    processors: Sequence[str] = ()
    inputs: list[str] = field(default_factory=list)
    pixels: int = 0
    differing: int = 0
    error: Error = NO_ERROR
    classes_seen: set[int] = field(default_factory=set)
    agreeing: list[int] = field(default_factory=list)  # pixels, on each of the other processors
    overflows: dict[int, str] = field(default_factory=dict)  # the first one, by the processor's number

    def add(self, name: str, expected: Prediction, found: Prediction, others: Sequence[Prediction] = ()) -> None:
        """Count one picture; `others`: the INT8 IR's predictions on the other processors."""
        self.inputs.append(name)
        self.pixels += expected.labels.size
        self.differing += int((found.labels != expected.labels).sum())
        self.error = worst(self.error, error_of(found.logits, expected.logits))
        self.classes_seen.update(np.unique(expected.labels).tolist())
        self.agreeing = self.agreeing or [0] * len(others)
        for number, other in enumerate(others):
            self.agreeing[number] += int((other.labels == expected.labels).sum())
            fault = overflow(other, found)
            if fault is not None:
                self.overflows.setdefault(number, f"on {self.processors[number]}: {name}: {fault}")

    def by_processor(self, executed: Sequence[str]) -> list[dict[str, Any]]:
        """Plain values of manifest_fields.OnProcessor, for each of the other processors."""
        return [
            {
                "processor": name,
                "executed": executed[number],
                "agreement": self.agreeing[number] / self.pixels,
                "fault": self.overflows.get(number),
            }
            for number, name in enumerate(self.processors)
        ]

    @property
    def agreement(self) -> float:
        """The share of pixels with the FP32 IR's label, 0..1."""
        return 1 - self.differing / self.pixels if self.pixels else 0.0

    @property
    def faults(self) -> list[str]:
        faults = []
        if not np.isfinite(self.error.largest):
            faults.append("its logits are not finite")
        if self.agreement < self.min_agreement:
            faults.append(f"the same label at {self.agreement:.2%} of the pixels, {self.min_agreement:.2%} required")
        faults += self.overflows.values()
        return faults

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        # Two models that each see one class everywhere can agree and both be wrong.
        verdict = "mismatch" if self.faults else "pass" if len(self.classes_seen) > 1 else "inconclusive"
        return {
            "verdict": verdict,
            "faults": self.faults,
            "inputs": self.inputs,
            "classes_seen": sorted(self.classes_seen),
            "pixels": self.pixels,
            "differing": self.differing,
            "agreement": self.agreement,
            "min_agreement": self.min_agreement,
            "relative_error": self.error.as_dict(),
        }


def check_int8(
    fp32: Path,
    int8: OpenModel,
    images: Sequence[Path],
    min_agreement: float,
    processors: Sequence[str] = (),
    note: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Compare the IR `int8` with `fp32` on the pictures `images`; gives plain values for JSON.

    The FP32 IR runs on the CPU at f32, the INT8 IR on its device, at f32 where that can. The INT8 IR is run on each of
    `processors` too, and must give the same answers there.

    `note` is called after each picture of each model. ContractError for an IR with other inputs or outputs than the
    card's, or that does not take images of the shape and form of `int8`; ImageError for a file that is no picture.
    """
    card, shape = int8.card, int8.shape
    check = Int8Check(min_agreement, processors)
    files = ModelImages.of(card)
    quantized = int8.open()
    models: list[Backend] = [OpenVinoBackend(fp32, card, shape, int8.form), quantized]

    def shown() -> Iterator[Image]:
        for path in images:
            yield files.fitted(path, *shape[2:])

    with ExitStack() as stack:
        children = [stack.enter_context(ChildModel(int8, Limits(), capped(name))) for name in processors]
        for path, expected, found, *others in zip(images, *(model.run(shown()) for model in [*models, *children])):
            check.add(printable_name(path.name), expected, found, others)
            for _ in (*models, *children):
                note()
        executed = [executed_instructions(name, child.printed()) for name, child in zip(processors, children)]
    runs = {"device": int8.device, "ran_on": quantized.ran_on, "computed_in": quantized.precision}
    del models, quantized
    irs = {"FP32": fp32, INT8: int8.path}
    return {
        **check.as_dict(),
        "processors": check.by_processor(executed),
        **runs,
        "bytes": {precision: path.with_suffix(".bin").stat().st_size for precision, path in irs.items()},
        "latency": [latency.model_dump() for latency in _latencies(irs, int8)],
    }


def _latencies(irs: Mapping[str, Path], int8: OpenModel) -> list[Latency]:
    subjects = [
        Subject("IR", "exported", weights, at, irs[weights], int8.form, device=int8.device) for weights, at in _SUBJECTS
    ]
    seconds, precisions = seconds_in_turns(int8.card, int8.shape, subjects, ROUNDS)
    return [
        Latency.model_validate(
            {
                "weights": subject.weights,
                "at": subject.at,
                "precision": precision,
                "median_ms": 1000 * float(np.median(seconds[:, number])),
                "ratio": float(np.median(seconds[:, 0] / seconds[:, number])),
            }
        )
        for number, (subject, precision) in enumerate(zip(subjects, precisions))
    ]
