"""Check a converted model against itself: its argmax on drawn logits, and its labels against its own logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.inputs import drawn_logits
from pspnet_convert.commands.verify.result import Comparison
from pspnet_convert.errors import ArtifactError
from pspnet_convert.runtimes.backends import Converted, Prediction


def check_argmax(backend: Converted, shape: Sequence[int], comparison: Comparison) -> None:
    """Run the model's argmax on drawn logits of `shape` [classes, H, W]; add a fault where a label is wrong."""
    logits = np.stack([np.roll(drawn_logits(*shape), slot, axis=-1) for slot in range(backend.slots)])
    try:
        labels = backend.argmax(logits)
    except ArtifactError as error:
        comparison.add_fault("argmax", error.what)
        return
    if labels.shape != (len(logits), *logits.shape[2:]):
        comparison.add_fault("argmax", f"gives labels {list(labels.shape)} for logits {list(logits.shape)}")
        return
    for slot_logits, slot_labels in zip(logits, labels):
        wrong = _first(slot_labels != slot_logits.argmax(axis=0))
        if wrong is not None:
            y, x = wrong
            values = ", ".join(f"{value:g}" for value in slot_logits[:, y, x])
            comparison.add_fault("argmax", f"takes class {int(slot_labels[y, x])} for the logits {values}")
            return


def check_labels(found: Prediction, name: str, classes: int, comparison: Comparison) -> None:
    """Add a fault where a label of `found`, on the input `name`, is no class or not the largest of its logits."""
    low, high = int(found.labels.min()), int(found.labels.max())
    if low < 0 or high >= classes:
        comparison.add_fault("labels", f"{name}: labels {low}..{high}, the card's classes are 0..{classes - 1}")
    elif found.labels.shape == found.logits.shape[1:] and found.logits.shape[0] > high:
        of_label = np.take_along_axis(found.logits, found.labels[None].astype(np.int64), axis=0)[0]
        wrong = _first(of_label < found.logits.max(axis=0))
        if wrong is not None:
            y, x = wrong
            label = int(found.labels[y, x])
            comparison.add_fault("labels", f"{name}: x={x} y={y}: class {label} does not have the largest logit")


def _first(wrong: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Row and column of the first True."""
    places = np.argwhere(wrong)
    return (int(places[0][0]), int(places[0][1])) if len(places) else None
