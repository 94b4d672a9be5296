"""Merge a model's answers to the images of one picture into the label map of the picture's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.runtimes.images import Size, resized_labels
from pspnet_convert.runtimes.resized_logits import labels_at_size
from pspnet_convert.runtimes.test_pipeline import Prepared

Bytes = NDArray[np.uint8]
Kind = Literal["logits", "label map"]


@dataclass(frozen=True)
class Answer:
    """A model's answer: `labels`, integers [h, w]; `logits`, float32 [classes, h, w], if it gives them.

    `logits` may be any scores of which the largest is the label's.
    """

    labels: NDArray[np.integer[Any]]
    logits: NDArray[np.float32] | None = None


class Merge(Protocol):
    """Takes the answers to the images of one sample, in their order.

    `label_maps` then gives the label map of the annotation's size, uint8 [H, W]: from logits, if the model gives them,
    and from its label maps.
    """

    def add(self, answer: Answer) -> None: ...

    def label_maps(self) -> dict[Kind, Bytes]: ...


class OneLabelMap:
    """The label map of one image: the rows and columns of `picture`, resized to `size` (nearest)."""

    def __init__(self, picture: Size, size: Size) -> None:
        self._picture, self._size = picture, size

    def add(self, answer: Answer) -> None:
        self._labels = answer.labels

    def label_maps(self) -> dict[Kind, Bytes]:
        return {"label map": _to_size(self._labels, self._picture, self._size)}


class OneAnswer(OneLabelMap):
    """As OneLabelMap; also from the logits, if the model gives them: resized (bilinear) before the argmax."""

    def add(self, answer: Answer) -> None:
        super().add(answer)
        self._logits = answer.logits

    def label_maps(self) -> dict[Kind, Bytes]:
        found = super().label_maps()
        if self._logits is not None and self._picture != self._size:
            found["logits"] = labels_at_size(self._logits[:, : self._picture[0], : self._picture[1]], self._size)
        return found


def _to_size(labels: NDArray[np.integer[Any]], picture: Size, size: Size) -> Bytes:
    part = labels[: picture[0], : picture[1]].astype(np.uint8)
    return part if part.shape == size else resized_labels(part, *size)


class Windows:
    """The windows at `places` of a prepared picture, merged as mmsegmentation does it.

    See its EncoderDecoder.slide_inference and postprocess_result. Where windows overlap, logits are
    averaged, and of label maps the most frequent class is taken (of several, the first). Then the logits are resized
    to `size` (bilinear) before the argmax, label maps by nearest neighbour.
    """

    def __init__(
        self, places: Sequence[tuple[slice, slice]], prepared: Prepared, size: Size, classes: int, *, align: bool
    ) -> None:
        self._places, self._picture, self._size, self._align = places, prepared.picture, size, align
        self._shape = (classes, *prepared.size)
        self._count = 0
        self._logits: Any = None  # torch, float32 of _shape: the sum
        self._votes: NDArray[np.int16] | None = None

    def add(self, answer: Answer) -> None:
        rows, columns = self._places[self._count]
        self._count += 1
        if len(self._places) == 1:
            self._only = answer
            return
        if self._votes is None:
            self._votes = np.zeros(self._shape, np.int16)
        window = self._votes[:, rows, columns]
        window += np.arange(len(window))[:, None, None] == answer.labels
        if answer.logits is not None:
            import torch

            if self._logits is None:
                self._logits = torch.zeros(self._shape)
            self._logits[:, rows, columns] += torch.from_numpy(answer.logits)

    def label_maps(self) -> dict[Kind, Bytes]:
        if self._votes is None:
            labels, logits = self._only.labels, self._only.logits
        else:
            labels = self._votes.argmax(axis=0)
            logits = None if self._logits is None else self._averaged()
        found: dict[Kind, Bytes] = {} if logits is None else {"logits": self._decide(logits)}
        return {**found, "label map": _to_size(labels, self._picture, self._size)}

    def _averaged(self) -> NDArray[np.float32]:
        import torch

        windows = torch.zeros(self._shape[1:])
        for place in self._places:
            windows[place] += 1
        averaged: NDArray[np.float32] = (self._logits / windows).numpy()
        return averaged

    def _decide(self, logits: NDArray[np.float32]) -> Bytes:
        import torch
        from torch.nn.functional import interpolate

        shown = torch.from_numpy(logits)[None, :, : self._picture[0], : self._picture[1]]
        resized = interpolate(shown, size=self._size, mode="bilinear", align_corners=self._align)
        return resized[0].argmax(dim=0).numpy().astype(np.uint8)
