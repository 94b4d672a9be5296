"""Read image files for a model: as its card's test pipeline loads them, or by their format."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from pspnet_convert.cards.card import Input, ModelCard
from pspnet_convert.cards.testing import Testing
from pspnet_convert.runtimes.bands import as_bytes, read_bands
from pspnet_convert.runtimes.bit_depth import NUMPY, is_tiff, warn_of_cut
from pspnet_convert.runtimes.images import fit, open_picture, read_image, to_bgr
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.test_pipeline import MmsegPipeline, with_channels


class ModelImages:
    """Reads images for the model of this input, and of this test by mmsegmentation, if its card has one.

    Images are [H, W, C]: of colours RGB, of others in their order; ImageError for one that does not fit the model.
    """

    def __init__(self, card_input: Input, testing: Testing | None) -> None:
        self._input, self._testing = card_input, testing

    @classmethod
    def of(cls, card: ModelCard) -> ModelImages:
        return cls(card.input, card.mmseg_test)

    def is_picture(self, path: Path) -> bool:
        """Whether a file is read as an ordinary picture: three colours in bytes."""
        return self._are_pictures and path.suffix.lower() != NUMPY

    def read(self, path: Path) -> Image:
        if self.is_picture(path):
            return read_image(path)
        if self._pipeline is not None:
            return self.reversed_colours(self._pipeline.load(path))  # the pipeline loads colours as BGR
        image = with_channels(read_bands(path), self._input, str(path))
        return as_bytes(path, image) if self._are_pictures else image

    def check_whole(self, path: Path) -> None:
        """Raise ImageError for a damaged file, of which OpenCV would decode a part; warn of one cut to 8 bits."""
        if path.suffix.lower() == NUMPY:
            return  # it is read below, not by OpenCV
        if not self._are_pictures and is_tiff(path):
            read_bands(path)
        else:
            open_picture(path)
        if self._testing is not None and self._testing.loads_bytes:
            warn_of_cut(path)

    def fitted(self, path: Path, height: int, width: int) -> Image:
        """The image in a file, fitted to height x width, in the order that the IR takes."""
        return self.reversed_colours(fit(self.read(path), height, width, self._input).image)

    def reversed_colours(self, image: Image) -> Image:
        """RGB as BGR and BGR as RGB: the IR takes colours as BGR. Other channels stay as they are."""
        return to_bgr(image) if self._input.is_color else np.ascontiguousarray(image)

    @property
    def _are_pictures(self) -> bool:
        return self._input.is_plain_color and (self._testing is None or self._testing.keeps_colours)

    @cached_property
    def _pipeline(self) -> MmsegPipeline | None:
        """The card's, if it loads images in a way of its own."""
        if self._testing is None or self._testing.keeps_colours:
            return None
        return MmsegPipeline(self._testing, self._input)
