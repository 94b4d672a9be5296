"""Faults between a model's logits and its label map: the label map does not follow from the logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from pspnet_convert.commands.verify.causes.evidence import Cause, Evidence, Labels, Logits
from pspnet_convert.errors import count

_LISTED = 4  # classes that a message lists
_FAR = 2  # pixels that a label map may be shifted by
Change = Callable[[Logits, Labels], Labels]  # from logits and their argmax to the labels that a fault makes of them


def follows(evidence: Evidence) -> bool:
    """Whether each label is the first of the largest logits, of the model's own and of those it was given alone."""
    return all(np.array_equal(labels, logits.argmax(axis=0)) for logits, labels in _pairs(evidence))


def label_cause(evidence: Evidence) -> Cause | None:
    """The fault that makes all labels of the model, from its own logits and from those it was given alone."""
    pairs = [(logits, logits.argmax(axis=0), labels) for logits, labels in _pairs(evidence)]
    classes = evidence.found.logits.shape[0]
    for what, change in (*_changes(classes), *_renumbered(pairs[-1][1], pairs[-1][2], classes)):
        if all(np.array_equal(change(logits, largest), labels) for logits, largest, labels in pairs):
            right = min(_share_of_equal(largest, labels) for _, largest, labels in pairs)
            words = f"with this fault its labels are those of its logits, without it {100 * right:.1f} % of them are"
            return Cause("output", what, words)
    return None


def _pairs(evidence: Evidence) -> list[tuple[Logits, Labels]]:
    drawn = [] if evidence.drawn is None else [evidence.drawn]
    return [(evidence.found.logits, evidence.found.labels), *drawn]


def _share_of_equal(largest: Labels, labels: Labels) -> float:
    return float(np.mean(largest == labels)) if largest.shape == labels.shape else 0.0


def _each(change: Callable[[Labels], Labels]) -> Change:
    """A change of the labels alone."""
    return lambda _, largest: change(largest)


def _changes(classes: int) -> Iterator[tuple[str, Change]]:
    top = classes - 1
    yield "of equal logits, the label is the last one", lambda logits, _: top - logits[::-1].argmax(axis=0)
    yield "the labels are of the smallest logit (argmin)", lambda logits, _: logits.argmin(axis=0)
    yield "the labels are counted from the end", _each(lambda largest: top - largest)
    for by in (1, -1):
        yield f"labels are {'too high' if by > 0 else 'too low'} by 1", _each(partial(np.add, by))
    yield "the label map is mirrored left to right", _each(lambda largest: largest[:, ::-1])
    yield "the label map is upside down", _each(lambda largest: largest[::-1])
    yield "the label map is rotated by 180 degrees", _each(lambda largest: largest[::-1, ::-1])
    yield "rows and columns of the label map are exchanged", _each(lambda largest: largest.T)
    yield "the label map is rotated by 90 degrees", _each(np.rot90)
    yield "the label map is rotated by 270 degrees", _each(partial(np.rot90, k=3))
    for bits in (4, 7):
        yield f"labels are kept in {bits} bits", _each(partial(np.bitwise_and, 2**bits - 1))
    yield "labels are kept in signed bytes", _each(lambda largest: largest.astype(np.int8))
    for most in range(1, top):
        yield f"labels above {most} are cut off", _each(partial(np.minimum, most))
    for y, x in np.ndindex(2 * _FAR + 1, 2 * _FAR + 1):
        step = (y - _FAR, x - _FAR)
        words = f"the label map is shifted by {step[0]} rows and {step[1]} columns"
        yield words, _each(partial(np.roll, shift=step, axis=(0, 1)))


def _renumbered(largest: Labels, labels: Labels, classes: int) -> Iterator[tuple[str, Change]]:
    """Each class has another number, always the same; several may have one."""
    if largest.shape != labels.shape:
        return
    numbers = np.arange(classes).astype(np.int64)
    numbers[largest.ravel()] = labels.ravel()
    moved = [number for number in range(classes) if numbers[number] != number]
    steps = {int(numbers[number]) - number for number in np.unique(largest)}
    if len(steps) == 1:
        (step,) = steps
        what = f"labels are too {'high' if step > 0 else 'low'} by {abs(step)}"
        yield what, _each(lambda largest: largest + step)
        return
    yield renumbering_in_words(numbers.tolist(), moved), _each(lambda largest: numbers[largest])


def renumbering_in_words(numbers: list[int], moved: list[int]) -> str:
    """`numbers`: the number that each class has; those of the classes `moved` are wrong."""
    if len(moved) == 2 and sorted(numbers) == list(range(len(numbers))):
        return f"classes {moved[0]} and {moved[1]} are swapped"
    each = ", ".join(f"{number} as {numbers[number]}" for number in moved[:_LISTED])
    more = f" and {count(len(moved) - _LISTED, 'more class', 'more classes')}" if len(moved) > _LISTED else ""
    return f"classes have other numbers: {each}{more}"
