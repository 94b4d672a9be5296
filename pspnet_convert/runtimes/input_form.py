"""How a model takes its images: batch size, number type, order of the axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.image_shape import DYNAMIC, ImageShape

Image = NDArray[np.uint8] | NDArray[np.float32]
_DYNAMIC_SIZES = (1, 3)
Item = TypeVar("Item")


@dataclass(frozen=True)
class InputForm:
    """The form of an IR's input. The defaults are the form of the ONNX and of Open Model Zoo's model."""

    type: Literal["f32", "u8"] = "f32"
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    @property
    def dtype(self) -> str:
        return {"f32": "float32", "u8": "uint8"}[self.type]

    def ordered(self, shape: ImageShape) -> tuple[int, ...]:
        """`shape` with its axes in the order of the layout."""
        return tuple(shape["NCHW".index(axis)] for axis in self.layout)

    def tensor(self, images: Sequence[Image]) -> NDArray[np.float32 | np.uint8]:
        """The input tensor for `images`, each BGR [H, W, 3], 0..255; each fills one slot (place in the batch).

        For u8, the fraction of a colour is cut off, as Open Model Zoo's accuracy_checker does.
        """
        stacked = np.stack(images).transpose(["NHWC".index(axis) for axis in self.layout])
        return np.ascontiguousarray(stacked, dtype=self.dtype)


PLAIN = InputForm()


def batch_sizes(batch: int) -> tuple[int, ...]:
    """The batch sizes that a model is run with, in turn: different ones for a dynamic batch."""
    return _DYNAMIC_SIZES if batch == DYNAMIC else (batch,)


def batches(items: Iterable[Item], batch: int) -> Iterator[list[Item]]:
    """Split `items` into batches, lazily, by the sizes of batch_sizes; the last batch may be smaller."""
    left = iter(items)
    for count in cycle(batch_sizes(batch)):
        group = list(islice(left, count))
        if not group:
            return
        yield group


def pad_batch(group: list[Item], batch: int) -> list[Item]:
    """`group` with its last item repeated until the batch is full; unchanged for a dynamic batch."""
    return group + [group[-1]] * (batch - len(group))
