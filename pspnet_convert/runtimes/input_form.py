"""How a model takes its images: batch size, number type, order of the axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.errors import ImageError
from pspnet_convert.image_shape import DYNAMIC, ImageShape

Image = NDArray[np.uint8 | np.uint16 | np.int16 | np.float32]
InputType = Literal["f32", "u8", "u16"]
_DTYPES: dict[str, str] = {"f32": "float32", "u8": "uint8", "u16": "uint16"}
_DYNAMIC_SIZES = (1, 3)
Item = TypeVar("Item")


@dataclass(frozen=True)
class InputForm:
    """The form of an IR's input. The defaults are the form of the ONNX and of Open Model Zoo's model."""

    type: InputType = "f32"
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    @property
    def dtype(self) -> str:
        return _DTYPES[self.type]

    @property
    def limits(self) -> tuple[int, int] | None:
        """The smallest and the largest value that it holds; None for float32."""
        if self.type == "f32":
            return None
        of_type = np.iinfo(self.dtype)
        return int(of_type.min), int(of_type.max)

    def ordered(self, shape: ImageShape) -> tuple[int, ...]:
        """`shape` with its axes in the order of the layout."""
        return tuple(shape["NCHW".index(axis)] for axis in self.layout)

    def tensor(self, images: Sequence[Image]) -> NDArray[np.float32 | np.uint8 | np.uint16]:
        """The input tensor for `images` [H, W, C], colours as BGR; each fills one slot (place in the batch).

        For u8 and u16, the fraction of a value is cut off, as Open Model Zoo's accuracy_checker does. ImageError for
        values that the type does not hold.
        """
        stacked = np.stack(images).transpose(["NHWC".index(axis) for axis in self.layout])
        if self.limits is not None and stacked.dtype != self.dtype:
            low, high = float(stacked.min()), float(stacked.max())
            if not (self.limits[0] - 1 < low and high < self.limits[1] + 1):
                raise ImageError(
                    f"an image has values of {low:g} to {high:g}, and the IR takes {self.type}, {_range(self.limits)}",
                    "Convert with another --input-type: f32 takes all values.",
                )
        return np.ascontiguousarray(stacked, dtype=self.dtype)


def _range(limits: tuple[int, int]) -> str:
    return f"{limits[0]}..{limits[1]}"


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
