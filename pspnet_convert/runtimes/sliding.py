"""Segment an image of any size through windows of the model's size, whose logits are in memory a few at a time.

Windows are a grid: row by row, each side by side. Where they overlap, their logits are blended; a model that gives
none has the label of the window whose centre is nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.runtimes.images import Size
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.merging import Answer

Run = Callable[[Iterable[Image]], Iterator[Answer]]
Read = Callable[[slice, slice], Image]
Logits = NDArray[np.float32]
_CARRIED = 1 << 27  # bytes of logits that are kept for the next row of windows


@dataclass(frozen=True)
class Axis:
    """The windows along one side of an image: `length` pixels each, from `starts`, over `side` pixels in all."""

    starts: Sequence[int]
    length: int
    side: int

    @classmethod
    def over(cls, side: int, length: int, overlap: int) -> Axis:
        """As few windows as overlap by `overlap` pixels or more, evenly spread. A shorter side has one."""
        if side <= length:
            return cls((0,), length, length)
        windows = -(-(side - overlap) // (length - overlap))
        return cls(tuple(place * (side - length) // (windows - 1) for place in range(windows)), length, side)

    def stop(self, number: int) -> int:
        return self.starts[number] + self.length

    def next_start(self, number: int) -> int:
        """Where the next window begins; the end, after the last one."""
        return self.starts[number + 1] if number + 1 < len(self.starts) else self.side

    def alone(self, number: int) -> slice:
        """The pixels that no other window has."""
        before = self.stop(number - 1) if number else 0
        return slice(before, max(before, self.next_start(number)))

    def nearest(self, number: int) -> slice:
        """The pixels whose nearest centre is this window's."""
        edges = [0, *((one + two + self.length) // 2 for one, two in pairwise(self.starts)), self.side]
        return slice(edges[number], edges[number + 1])

    def weights(self, number: int) -> Logits:
        """[length]: 1, and less where a neighbour overlaps: falling to 0 at this window's edge, linearly."""
        found = np.ones(self.length, np.float32)
        if number:
            before = _ramp(self.stop(number - 1) - self.starts[number])
            found[: len(before)] = before
        after = _ramp(self.stop(number) - self.next_start(number))[::-1]
        end = found[self.length - len(after) :]
        np.minimum(end, after, out=end)
        return found

    def within(self, start: int, stop: int) -> list[int]:
        """The windows that have one of these pixels."""
        return [number for number, first in enumerate(self.starts) if first < stop and first + self.length > start]


def _ramp(pixels: int) -> Logits:
    return ((np.arange(pixels) + 0.5) / max(1, pixels)).astype(np.float32)


@dataclass(frozen=True)
class Grid:
    """The windows over an image: those along its height and those along its width."""

    rows: Axis
    columns: Axis

    @classmethod
    def over(cls, size: Size, window: Size, overlap: int) -> Grid:
        """Over an image of `size`; neighbours overlap by `overlap` pixels or more."""
        return cls(Axis.over(size[0], window[0], overlap), Axis.over(size[1], window[1], overlap))


def slide(run: Run, read: Read, grid: Grid, classes: int, *, blended: bool) -> NDArray[np.uint8]:
    """The label map of an image, uint8 [rows.side, columns.side].

    `run` is the model; `read` gives the pixels of a window, of these rows and columns. `blended`: the answers have
    logits. At a pixel of one window alone, the label is that window's own.
    """
    labels = np.empty((grid.rows.side, grid.columns.side), np.uint8)
    if not blended:
        _take_nearest(run, read, grid, labels)
        return labels
    for strip in _strips(grid, classes):
        _blend_strip(run, read, grid, labels, strip)
    return labels


def windows_run(grid: Grid, classes: int, *, blended: bool) -> int:
    """How many windows `slide` runs the model on: a few more than the grid has, where it works in several strips."""
    widths = [grid.columns.within(*strip) for strip in _strips(grid, classes)]
    columns = sum(map(len, widths)) if blended else len(grid.columns.starts)
    return len(grid.rows.starts) * columns


def _strips(grid: Grid, classes: int) -> list[tuple[int, int]]:
    """The first column and the one after the last of each strip that is blended at once."""
    width = max(grid.columns.length, _CARRIED // (4 * classes * max(1, _largest_overlap(grid.rows))))
    return [(start, min(start + width, grid.columns.side)) for start in range(0, grid.columns.side, width)]


def _take_nearest(run: Run, read: Read, grid: Grid, labels: NDArray[np.uint8]) -> None:
    answers = run(_windows(read, grid, range(len(grid.columns.starts))))
    for row, top in enumerate(grid.rows.starts):
        for column, left in enumerate(grid.columns.starts):
            rows, columns = grid.rows.nearest(row), grid.columns.nearest(column)
            labels[rows, columns] = next(answers).labels[_moved(rows, top), _moved(columns, left)]


def _windows(read: Read, grid: Grid, columns: Iterable[int]) -> Iterator[Image]:
    columns = list(columns)
    for top in grid.rows.starts:
        for column in columns:
            left = grid.columns.starts[column]
            yield read(slice(top, top + grid.rows.length), slice(left, left + grid.columns.length))


def _blend_strip(run: Run, read: Read, grid: Grid, labels: NDArray[np.uint8], strip: tuple[int, int]) -> None:
    """Fill the columns of a strip. Their logits are kept only in the rows that the next windows have too: so a strip's
    width bounds the memory. Windows on a border run for both strips."""
    start, stop = strip
    numbers = grid.columns.within(start, stop)
    answers = run(_windows(read, grid, numbers))
    kept = _Kept(_largest_overlap(grid.rows), stop - start)
    for row, top in enumerate(grid.rows.starts):
        done = grid.rows.next_start(row) - top
        left_logits: Any = None  # of the columns that the window to the left has too
        for number in numbers:
            answer, left = next(answers), grid.columns.starts[number]
            assert answer.logits is not None
            logits = answer.logits * (grid.rows.weights(row)[:, None] * grid.columns.weights(number))
            if left_logits is not None:
                logits[:, :, : left_logits.shape[2]] += left_logits
            following = grid.columns.next_start(number)
            left_logits = logits[:, :, following - left :].copy()  # a view would keep all of them
            ready = slice(max(left, start), min(following, stop))
            if ready.start >= ready.stop:
                continue
            finished = logits[:, :, _moved(ready, left)]
            kept.add_to(finished, _moved(ready, start))
            labels[top : top + done, ready] = finished[:, :done].argmax(axis=0)
            kept.take(finished[:, done:], _moved(ready, start))
            _take_alone(labels[:, start:stop], answer, grid, row, number, start)
        kept.rows = grid.rows.length - done


class _Kept:
    """Logits of the rows that the next row of windows has too, [classes, `rows`, width]."""

    def __init__(self, rows: int, width: int) -> None:
        self.rows = 0
        self._size = rows, width
        self._logits: Logits | None = None

    def add_to(self, logits: Logits, columns: slice) -> None:
        if self._logits is not None:
            logits[:, : self.rows] += self._logits[:, : self.rows, columns]

    def take(self, logits: Logits, columns: slice) -> None:
        if self._logits is None:
            self._logits = np.zeros((len(logits), *self._size), np.float32)
        self._logits[:, : logits.shape[1], columns] = logits


def _take_alone(strip: NDArray[np.uint8], answer: Answer, grid: Grid, row: int, number: int, start: int) -> None:
    """Where no other window is, its label map counts as it is: the argmax again could decide a tie in another way."""
    rows, columns = grid.rows.alone(row), grid.columns.alone(number)
    columns = slice(max(columns.start, start), min(columns.stop, start + strip.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        top, left = grid.rows.starts[row], grid.columns.starts[number]
        strip[rows, _moved(columns, start)] = answer.labels[_moved(rows, top), _moved(columns, left)]


def _largest_overlap(axis: Axis) -> int:
    return max((axis.stop(number) - axis.next_start(number) for number in range(len(axis.starts))), default=0)


def _moved(span: slice, by: int) -> slice:
    return slice(span.start - by, span.stop - by)
