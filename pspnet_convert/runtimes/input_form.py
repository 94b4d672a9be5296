"""How images lie in a model's input: how many at a time, in which numbers, in which order of axes.

That a file keeps to it is contract.py's business; what the numbers mean is the card's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.image_shape import DYNAMIC, ImageShape

Image = NDArray[np.uint8] | NDArray[np.float32]
_SHOWN_DYNAMIC = (1, 3)
Item = TypeVar("Item")


@dataclass(frozen=True)
class InputForm:
    """The form of an IR's input; the defaults are those of the ONNX, and of the page of Open Model Zoo's model."""

    type: Literal["f32", "u8"] = "f32"
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    @property
    def dtype(self) -> str:
        return {"f32": "float32", "u8": "uint8"}[self.type]

    def ordered(self, shape: ImageShape) -> tuple[int, ...]:
        """`shape` in the order of the layout."""
        return tuple(shape["NCHW".index(axis)] for axis in self.layout)

    def tensor(self, images: Sequence[Image]) -> NDArray[np.float32 | np.uint8]:
        """The input that holds `images`, one a slot: each BGR [H, W, 3], 0..255, as numbers of the form's type."""
        stacked = np.stack(images).transpose(["NHWC".index(axis) for axis in self.layout])
        return np.ascontiguousarray(stacked, dtype=self.dtype)


PLAIN = InputForm()


def batch_sizes(batch: int) -> tuple[int, ...]:
    """How many images a model of this batch gets at a time, in turns: a dynamic one, of different numbers."""
    return _SHOWN_DYNAMIC if batch == DYNAMIC else (batch,)


def batches(items: Iterable[Item], batch: int) -> Iterator[list[Item]]:
    """`items` as the model gets them; the last group may be smaller. None is taken before it is needed."""
    left = iter(items)
    for count in cycle(batch_sizes(batch)):
        group = list(islice(left, count))
        if not group:
            return
        yield group


def pad_batch(group: list[Item], batch: int) -> list[Item]:
    """`group` with its last item once more in each slot that is left; a dynamic batch has none left."""
    return group + [group[-1]] * (batch - len(group))
