"""Faults in a model's logits that are seen from the arrays alone: classes, offsets, scale, place, probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.causes.evidence import Cause, Evidence, Logits, Tests
from pspnet_convert.commands.verify.causes.label_causes import renumbering_in_words

_SAMPLED = 4096  # pixels on which a hypothesis is tried first
_PROMISING = 0.05  # of the logits, on those pixels
_LISTED = 4  # classes whose numbers a message lists
_FAR = 2  # pixels that logits may be shifted by


def not_finite(evidence: Evidence) -> Cause | None:
    """A cause of its own: what comes after is not finite either, and there are no figures to compare."""
    wrong = ~np.isfinite(evidence.found.logits)
    if not wrong.any() or not np.isfinite(evidence.expected.logits).all():
        return None
    classes, share = int(wrong.any(axis=(1, 2)).sum()), 100 * float(wrong.mean())
    words = f"{share:.3g} % of them, in {classes} of {len(wrong)} classes; the reference's are all finite"
    return Cause("numbers", "some logits are not finite (NaN or infinite)", words)


def logit_causes(evidence: Evidence) -> Tests:
    found, expected = evidence.found.logits, evidence.expected.logits
    yield _other_threshold(evidence)
    yield _other_image(evidence)
    for what, change in (*_probabilities(), *_turns(expected.shape), *_shifts()):
        changed = change(expected)
        if _is_promising(found, changed):
            yield evidence.explained_by("output", what, changed)
    yield from _linear(evidence)


def _sample(shape: Sequence[int]) -> NDArray[np.intp]:
    """Pixels of a map [H, W], as places in the flat map."""
    size = shape[0] * shape[1]
    return np.random.default_rng(0).choice(size, min(size, _SAMPLED), replace=False)


def _at(logits: Logits, places: NDArray[np.intp]) -> NDArray[np.float64]:
    return logits.reshape(len(logits), -1)[:, places].astype(np.float64)


def _is_promising(found: Logits, changed: Logits) -> bool:
    if found.shape != changed.shape:
        return False
    places = _sample(found.shape[1:])
    a, b = _at(found, places), _at(changed, places)
    return bool(np.linalg.norm(a - b) <= _PROMISING * np.linalg.norm(b))


def _other_threshold(evidence: Evidence) -> Cause | None:
    """A binary head's first logit is its threshold."""
    right, given = evidence.network.decision_score, evidence.found.logits[0]
    if right is None or given.min() != given.max() or given[0, 0] == right:
        return None
    changed = evidence.expected.logits.copy()
    changed[0] = given
    what = f"scores are compared with {given[0, 0]:.6g}, the threshold is {right:.6g}"
    return evidence.explained_by("output", what, changed)


def _other_image(evidence: Evidence) -> Cause | None:
    for name, logits in evidence.others.items():
        if _is_promising(evidence.found.logits, logits):
            cause = evidence.explained_by(
                "input", f"the images of a batch are mixed up: this one's answer is that of {name}", logits
            )
            if cause is not None:
                return cause
    return None


def _probabilities() -> Iterator[tuple[str, Callable[[Logits], Logits]]]:
    def exponentials(logits: Logits) -> Logits:
        values: Logits = np.exp(logits - logits.max(axis=0))
        return values

    def softmax(logits: Logits) -> Logits:
        values = exponentials(logits)
        return values / values.sum(axis=0)  # type: ignore[no-any-return]

    def log_softmax(logits: Logits) -> Logits:
        return logits - logits.max(axis=0) - np.log(exponentials(logits).sum(axis=0))  # type: ignore[no-any-return]

    def sigmoid(logits: Logits) -> Logits:
        values: Logits = np.reciprocal(1 + np.exp(-logits))
        return values

    yield "the logits are probabilities (softmax)", softmax
    yield "the logits are logarithms of probabilities (log-softmax)", log_softmax
    yield "the logits are probabilities of each class (sigmoid)", sigmoid
    yield "logits below 0 are cut off", lambda logits: logits.clip(0, None)
    yield "the logits have the opposite sign (argmin)", lambda logits: -logits


def _turns(shape: Sequence[int]) -> Iterator[tuple[str, Callable[[Logits], Logits]]]:
    yield "the logits are mirrored left to right", lambda logits: logits[:, :, ::-1]
    yield "the logits are upside down", lambda logits: logits[:, ::-1]
    yield "the logits are rotated by 180 degrees", lambda logits: logits[:, ::-1, ::-1]
    if shape[1] == shape[2]:
        yield "rows and columns of the logits are exchanged", lambda logits: logits.swapaxes(1, 2)
        yield "the logits are rotated by 90 degrees", lambda logits: np.rot90(logits, axes=(1, 2))
        yield "the logits are rotated by 270 degrees", lambda logits: np.rot90(logits, 3, axes=(1, 2))


def _shifts() -> Iterator[tuple[str, Callable[[Logits], Logits]]]:
    for y, x in np.ndindex(2 * _FAR + 1, 2 * _FAR + 1):
        step = (y - _FAR, x - _FAR)
        if step != (0, 0):
            words = f"the logits are shifted by {step[0]} rows and {step[1]} columns"
            yield words, partial(np.roll, shift=step, axis=(1, 2))


def _linear(evidence: Evidence) -> Tests:
    """Classes in another order, another factor, another offset for each class."""
    found, expected = evidence.found.logits, evidence.expected.logits
    places = _sample(found.shape[1:])
    a, b = _at(found, places), _at(expected, places)
    of_a, of_b = a.mean(axis=1), b.mean(axis=1)
    a, b = a - of_a[:, None], b - of_b[:, None]
    order = _nearest_planes(a, b)
    if sorted(order) != list(range(len(order))):
        return
    if order != list(range(len(order))):
        yield from _reordered(evidence, order, of_a - of_b[order])
        return
    factor = float((a * b).sum() / max((b * b).sum(), np.finfo(np.float64).tiny))
    if abs(factor - 1) > 1e-4:
        what = f"the logits are {factor:.6g} times the reference's"
        yield evidence.explained_by("output", what, (factor * expected).astype(np.float32))
        return
    offsets = of_a - of_b
    yield evidence.explained_by("output", _offsets_in_words(evidence, offsets), _moved(expected, offsets))


def _nearest_planes(a: NDArray[np.float64], b: NDArray[np.float64]) -> list[int]:
    """For each row of `a`, the row of `b` that is nearest; its own where both are constant."""
    distances = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    nearest = distances.argmin(axis=1)
    own = np.arange(len(a))
    is_own = distances[own, own] <= distances[own, nearest] + 1e-9 * (b**2).sum() / len(b)
    return np.where(is_own, own, nearest).tolist()  # type: ignore[no-any-return]


def _moved(logits: Logits, offsets: NDArray[np.float64]) -> Logits:
    return logits + offsets.astype(np.float32)[:, None, None]  # type: ignore[no-any-return]


def _reordered(evidence: Evidence, order: list[int], offsets: NDArray[np.float64]) -> Tests:
    """`order`: the class of the reference that each class of the model has; `offsets`: what the model adds to it."""
    reordered = evidence.expected.logits[order]
    moved = [number for number, other in enumerate(order) if number != other]
    words = renumbering_in_words(order, moved)
    yield evidence.explained_by("output", words, reordered)
    bias = _last_bias(evidence)
    if bias is not None:
        kept = _moved(reordered, bias - bias[order])
        yield evidence.explained_by("output", f"{words} in the last layer's weights, and not in its bias", kept)
    yield evidence.explained_by("output", f"{words}, and have other offsets", _moved(reordered, offsets))


def _offsets_in_words(evidence: Evidence, offsets: NDArray[np.float64]) -> str:
    bias = _last_bias(evidence)
    if bias is not None and np.abs(bias).max() > 0:
        factor = 1 + float(offsets @ bias / (bias @ bias))
        if np.abs(offsets - (factor - 1) * bias).max() <= 1e-3 * np.abs(offsets).max():
            return (
                "the last layer's bias is missing"
                if abs(factor) < 1e-3
                else f"the last layer's bias is {factor:.4g} times the reference's"
            )
    wrong = np.flatnonzero(np.abs(offsets) > 1e-3 * np.abs(offsets).max())
    each = ", ".join(f"{offsets[number]:+.3g} for class {number}" for number in wrong[:_LISTED])
    more = " and others" if len(wrong) > _LISTED else ""
    return f"the last layer's bias is off: {each}{more}"


def _last_bias(evidence: Evidence) -> NDArray[np.float64] | None:
    """The bias of the last layer, float64 [classes]; 0 for a binary head's threshold. None if there is none."""
    layer = getattr(evidence.network.decode_head, "conv_seg", None)
    if layer is None or layer.bias is None:
        return None
    bias: NDArray[np.float64] = layer.bias.detach().double().numpy()
    bias = np.concatenate([[0.0], bias]) if evidence.network.decision_score is not None else bias
    return bias if len(bias) == len(evidence.expected.logits) else None
