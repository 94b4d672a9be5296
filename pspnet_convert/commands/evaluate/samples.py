"""An image as a protocol gives it to a model, and what is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pspnet_convert.runtimes.images import Size
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.merging import Bytes, Merge


@dataclass(frozen=True)
class Sample:
    """`images`: what a model is given, BGR [h, w, 3], uint8 or float32; several are windows of one picture.

    `truth`: what is scored, uint8 [H, W]: classes, NO_CLASS, IGNORED. `merge` begins to merge answers; it is given the
    model's number of classes and `align_corners`.
    """

    images: Sequence[Image]
    truth: Bytes
    merge: Callable[[int, bool], Merge]


@dataclass(frozen=True)
class Loaded:
    """A picture that has been read. `size`: of the picture; `sample` takes its annotation, uint8 of that size."""

    size: Size
    sample: Callable[[Bytes], Sample]
