"""Check a converted model against itself: its argmax on drawn logits, and its labels against its own logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.inputs import drawn_logits, drawn_scores
from pspnet_convert.commands.verify.result import Comparison
from pspnet_convert.errors import ArtifactError
from pspnet_convert.runtimes.backends import Converted, Prediction


def check_argmax(
    backend: Converted, shape: Sequence[int], comparison: Comparison, threshold: float | None = None
) -> None:
    """Run the model's argmax on drawn logits of `shape` [classes, H, W]; add a fault where a label is wrong.

    `threshold`: a binary head's, as a score.
    """
    drawn = drawn_logits(*shape) if threshold is None else drawn_scores(threshold, *shape[1:])
    logits = np.stack([np.roll(drawn, slot, axis=-1) for slot in range(backend.slots)])
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
            values = ", ".join(f"{value:.9g}" for value in slot_logits[:, y, x])
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


def check_threshold(found: Prediction, name: str, threshold: float, comparison: Comparison) -> None:
    """Add a fault where the first logit of a binary head, on the input `name`, is not the threshold to the last bit."""
    wrong = found.logits[0][found.logits[0] != np.float32(threshold)]
    if wrong.size:
        words = f"{name}: scores are compared with {wrong[0]:.9g}, the threshold is {threshold:.9g}"
        comparison.add_fault("logits", words)


def _first(wrong: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Row and column of the first True."""
    places = np.argwhere(wrong)
    return (int(places[0][0]), int(places[0][1])) if len(places) else None
