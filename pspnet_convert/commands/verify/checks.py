"""Check a converted model against itself: its argmax on drawn logits, and its labels against its own logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.answers import Answers
from pspnet_convert.commands.verify.golden import margin
from pspnet_convert.commands.verify.inputs import drawn_logits, drawn_scores
from pspnet_convert.commands.verify.kept_prediction import KeptAnswer
from pspnet_convert.commands.verify.result import Comparison
from pspnet_convert.runtimes.backends import Prediction
from pspnet_convert.runtimes.int8_overflow import overflow
from pspnet_convert.runtimes.logit_error import Error, error_of, largest, rms
from pspnet_convert.runtimes.output_form import probabilities_of

_STEP = 2.0**-22  # what a softmax in float32 may be off by itself: a few roundings of numbers up to 1
_MOST_ROUNDING = 1e-3  # relative; an INT8 model's own tolerance has no limit


def drawn_for(shape: Sequence[int], threshold: float | None) -> NDArray[np.float32]:
    """Logits of `shape` [classes, H, W] for the check `argmax`. `threshold`: a binary head's, as a score."""
    return drawn_logits(*shape) if threshold is None else drawn_scores(threshold, *shape[1:])


def check_argmax(
    labels: NDArray[np.integer[Any]] | str | None, drawn: NDArray[np.float32], comparison: Comparison
) -> None:
    """Add a fault where one of the model's labels [slots, H, W] for the logits `drawn` [classes, H, W] is wrong.

    Each slot had the logits shifted by its number. A string says why there are no labels; None: it gives none.
    """
    if labels is None:
        return
    if isinstance(labels, str):
        comparison.add_fault("argmax", labels)
        return
    logits = np.stack([np.roll(drawn, slot, axis=-1) for slot in range(len(labels))])
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


def check_as_shipped(labels: NDArray[np.integer[Any]], found: Prediction, name: str, comparison: Comparison) -> None:
    """Add a fault where the model as its file is gave other `labels` than `found`, with its logits as one more output.

    An output more can change the order of sums, so that nearly equal logits change places: that is no fault. How near
    is what is allowed of the model's logits.
    """
    if labels.shape != found.labels.shape:
        comparison.add_fault("as shipped", f"{name}: labels {list(labels.shape)} instead of {list(found.labels.shape)}")
        return
    differs = labels != found.labels
    if not differs.any():
        return
    near = 2 * min(comparison.allowed.largest, _MOST_ROUNDING) * float(np.abs(found.logits).max(initial=0))
    wrong = _first(differs & ~_nearly_equal(found.logits, labels.shape, near))
    if wrong is not None:
        y, x = wrong
        both = f"class {int(labels[y, x])}, and {int(found.labels[y, x])} where the logits are an output too"
        count = int(differs.sum())
        comparison.add_fault("as shipped", f"{name}: {count} labels differ, first x={x} y={y}: the file gives {both}")


def check_outputs(
    shipped: KeptAnswer, logits: NDArray[np.float32], limit: Error, is_binary: bool, name: str, comparison: Comparison
) -> None:
    """Add a fault where the file's own output `logits` or `probabilities` is not what the expected `logits` give.

    `limit`: the error that is allowed of the logits. Where all logits are off by at most e, no probability p_i is off
    by more than e / 2: its derivatives p_i (1 - p_i) and -p_i p_j have absolute values that sum to 2 p_i (1 - p_i).
    The Jacobian's norm is at most 1/2 as well, so half is the bound of the root mean squares too. (A sigmoid has half
    of that.)
    """
    for output in shipped.files:
        found = shipped.scores(output)
        if found.shape != logits.shape:
            comparison.add_fault("outputs", f"{name}: {output} {list(found.shape)} instead of {list(logits.shape)}")
        elif output == "logits":
            error = error_of(found, logits)
            if not error.within(limit):
                comparison.add_fault("outputs", f"{name}: {output} {_off(error, limit)}, relative")
        else:
            expected = probabilities_of(logits, is_binary=is_binary)
            difference = found - expected
            error = Error(rms(difference), largest(difference))
            half = Error(limit.rms * rms(logits) / 2 + _STEP, limit.largest * largest(logits) / 2 + _STEP)
            if not error.within(half):
                comparison.add_fault("outputs", f"{name}: {output} {_off(error, half)}")


def _off(error: Error, limit: Error) -> str:
    return (
        f"are off by {error.rms:.1e} rms and {error.largest:.1e} at most; "
        f"{limit.rms:.1e} and {limit.largest:.1e} allowed"
    )


def check_processor(found: Answers, uncapped: Answers, names: Sequence[str], comparison: Comparison) -> None:
    """Add a fault where an INT8 model gives another answer than on the processor as it is (`uncapped`)."""
    for name, here, there in zip(names, found.predictions, uncapped.predictions, strict=True):
        fault = overflow(here.loaded(), there.loaded())
        if fault is not None:
            comparison.add_fault("processor", f"{name}: {fault}")


def _nearly_equal(logits: NDArray[np.float32], shape: tuple[int, ...], near: float) -> NDArray[np.bool_]:
    """The pixels [H, W] where the two largest logits are so `near` each other; none if `logits` have another size."""
    if logits.shape[1:] != shape or len(logits) < 2:
        return np.zeros(shape, bool)
    equal: NDArray[np.bool_] = margin(logits) <= near
    return equal


def _first(wrong: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Row and column of the first True."""
    places = np.argwhere(wrong)
    return (int(places[0][0]), int(places[0][1])) if len(places) else None
