"""Get the label map of each picture from the model: fitted, as the card's test pipeline has it, or through windows."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ImageError, OptionError
from pspnet_convert.runtimes.images import Size, as_type, fit, mean_pixel, padded
from pspnet_convert.runtimes.input_form import Image, ImageShape
from pspnet_convert.runtimes.merging import Answer, Merge, OneAnswer, Windows
from pspnet_convert.runtimes.model_images import ModelImages
from pspnet_convert.runtimes.output_form import ModelAnswer, deciding_scores
from pspnet_convert.runtimes.sliding import Grid, slide, windows_run
from pspnet_convert.runtimes.test_pipeline import MmsegPipeline, Prepared, windows

Labels = NDArray[np.uint8]
_MUCH_LARGER = 4  # times the model's side
log = logging.getLogger(__name__)


class Model(Protocol):
    """Answers to images of its size, colours as BGR, in their order. `scores`: the names of those that it gives."""

    @property
    def scores(self) -> Sequence[str]: ...

    def in_flight(self, images: Iterable[Image]) -> Iterator[ModelAnswer]: ...


@dataclass(frozen=True)
class Picture:
    """An image [H, W, C] as ModelImages reads it, called `named` in messages. `path`: its file, if it has one."""

    image: Image
    named: str
    path: Path | None = None

    @property
    def size(self) -> Size:
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class _Given:
    """What the model is given of a picture: one image, or several windows. `merge` takes its answers.

    `wanted`: the size that the test pipeline gives, if the model does not take it and the picture is fitted instead.
    """

    picture: Picture
    images: Sequence[Image]
    merge: Merge
    wanted: Size | None = None


class Labelling:
    """Gives pictures their label maps. `slide`: through windows that overlap by `overlap` pixels or more.

    Without `slide`, a picture is prepared by the card's test pipeline if that gives images of the model's size; else it
    is fitted into that size, and a warning says so. OptionError for an overlap that does not go with the rest.
    """

    def __init__(
        self, model: Model, card: ModelCard, shape: ImageShape, *, slide: bool = False, overlap: int | None = None
    ) -> None:
        self._model, self._card, self._size = model, card, (shape[2], shape[3])
        self._scores = deciding_scores(model.scores, len(card.classes))
        self.files = ModelImages.of(card)
        self._pipeline = MmsegPipeline(card.mmseg_test, card.input) if card.mmseg_test and not slide else None
        self._overlap = _checked_overlap(self._size, overlap, slide=slide)

    @property
    def slides(self) -> bool:
        return self._overlap is not None

    def windows_of(self, picture: Picture) -> int:
        """How many windows the model runs on to slide over the picture."""
        return windows_run(self._grid(picture), len(self._card.classes), blended=self._scores is not None)

    def labels(
        self, pictures: Iterable[Picture], on_window: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[Picture, Labels]]:
        """Each picture with its label map, of its size. `on_window` is called for each window of a slide."""
        if self.slides:
            yield from ((picture, self._slid(picture, on_window)) for picture in pictures)
        else:
            yield from self._fitted(pictures)

    def _answers(self, images: Iterable[Image]) -> Iterator[Answer]:
        for answer in self._model.in_flight(images):
            yield Answer(answer.labels, None if self._scores is None else answer.scores[self._scores])

    def _slid(self, picture: Picture, on_window: Callable[[], None]) -> Labels:
        grid = self._grid(picture)
        pixel = as_type(mean_pixel(self._card.input), picture.image)
        whole = grid.rows.side, grid.columns.side
        image = picture.image if picture.size == whole else padded(picture.image, whole, pixel)

        def read(rows: slice, columns: slice) -> Image:
            on_window()
            return self.files.reversed_colours(image[rows, columns])

        classes = len(self._card.classes)
        labels = slide(self._answers, read, grid, classes, blended=self._scores is not None)
        return labels[: picture.size[0], : picture.size[1]]

    def _grid(self, picture: Picture) -> Grid:
        assert self._overlap is not None
        return Grid.over(picture.size, self._size, self._overlap)

    def _fitted(self, pictures: Iterable[Picture]) -> Iterator[tuple[Picture, Labels]]:
        waiting: deque[_Given] = deque()

        def shown() -> Iterator[Image]:
            wanted: list[Size] = []
            large: list[Picture] = []
            count = 0
            for count, picture in enumerate(pictures, 1):  # noqa: B007 (it is logged below)
                given = self._given(picture)
                waiting.append(given)
                wanted += [given.wanted] if given.wanted is not None else []
                if any(side > _MUCH_LARGER * model for side, model in zip(picture.size, self._size)):
                    large.append(Picture(picture.image[:0], picture.named) if large else picture)
                yield from given.images
            self._warn(wanted, large, count)

        answers = self._answers(shown())
        for answer in answers:
            given = waiting.popleft()
            given.merge.add(answer)
            for _ in given.images[1:]:
                given.merge.add(next(answers))
            maps = given.merge.label_maps()
            yield given.picture, maps.get("logits", maps["label map"])

    def _given(self, picture: Picture) -> _Given:
        wanted: Size | None = None
        testing = self._card.mmseg_test
        if self._pipeline is not None and testing is not None:
            prepared = self._prepared(picture, self._pipeline)
            places = windows(prepared.size, testing)
            parts = [prepared.image[place] for place in places]
            if all(part.shape[:2] == self._size for part in parts):
                return _Given(picture, parts, self._merge(places, prepared, picture.size))
            wanted = parts[0].shape[0], parts[0].shape[1]
        fitted = fit(picture.image, *self._size, self._card.input)
        merge = OneAnswer((fitted.height, fitted.width), picture.size)
        return _Given(picture, [self.files.reversed_colours(fitted.image)], merge, wanted)

    def _merge(self, places: Sequence[tuple[slice, slice]], prepared: Prepared, size: Size) -> Merge:
        if len(places) == 1:
            return OneAnswer(prepared.picture, size)
        return Windows(places, prepared, size, len(self._card.classes), align=False)

    def _prepared(self, picture: Picture, pipeline: MmsegPipeline) -> Prepared:
        if picture.path is not None:
            try:
                return pipeline.prepare(picture.path)
            except ImageError:
                if not self.files.is_picture(picture.path):
                    raise
        # A frame of a video, or a picture in a format that mmsegmentation does not read.
        return pipeline.prepare_decoded(self.files.reversed_colours(picture.image), picture.named)

    def _warn(self, wanted: Sequence[Size], large: Sequence[Picture], images: int) -> None:
        width_first = f"{self._size[1]}x{self._size[0]}"
        if wanted:
            log.warning(
                "%d of %d images are fitted into %s and padded, which is not what the card's test pipeline does: "
                "it gives %dx%d, for example",
                *(len(wanted), images, width_first, *reversed(wanted[0])),
            )
        if large:
            log.warning(
                "%d of %d images are much larger than the model, which takes %s: %s has %dx%d, for example. "
                "--slide segments them at their full resolution",
                *(len(large), images, width_first, large[0].named, *reversed(large[0].size)),
            )


def _checked_overlap(window: Size, overlap: int | None, *, slide: bool) -> int | None:
    """The overlap of the windows; None if there are none."""
    if not slide:
        if overlap is not None:
            raise OptionError("--overlap is of the windows of --slide", "Add --slide, or leave it out.")
        return None
    if overlap is None:
        return min(window) // 4
    if overlap >= min(window):
        size = f"{window[1]}x{window[0]}"
        raise OptionError(
            f"--overlap {overlap} is not smaller than the windows, which have the model's size, {size}",
            f"Give 0 to {min(window) - 1} pixels.",
        )
    return overlap
