"""Prepare images as mmsegmentation's test pipeline of a card does, with mmsegmentation's own steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pspnet_convert.cards.card import Input
from pspnet_convert.cards.testing import Testing
from pspnet_convert.errors import CardError, ImageError, first_line
from pspnet_convert.mmcv_ops import provide_mmcv_ops
from pspnet_convert.runtimes.bands import as_bytes, as_known_type, check_finite, read_bands
from pspnet_convert.runtimes.bit_depth import NUMPY, warn_of_cut
from pspnet_convert.runtimes.images import Size, padded, to_bgr
from pspnet_convert.runtimes.input_form import Image

# Not on images: annotations are read elsewhere, and the card's input has the normalisation.
_LEFT_OUT = ("LoadAnnotations", "Normalize", "PackSegInputs")
_Step = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Prepared:
    """An image as the network is given it, before normalisation: uint8 or float32 [H, W, C], colours as BGR.

    `picture`: the rows and columns, from the top left, that are no padding. `original`: the size of the file's picture.
    """

    image: Image
    picture: Size
    original: Size

    @property
    def size(self) -> Size:
        return self.image.shape[0], self.image.shape[1]


class MmsegPipeline:
    """The steps of `testing`, and its data preprocessor's padding in test mode (stack_batch in mmseg/utils/misc.py).

    Raises CardError if mmsegmentation does not build a step.
    """

    def __init__(self, testing: Testing, card_input: Input) -> None:
        steps = [step for step in testing.pipeline if step["type"] not in _LEFT_OUT]
        self._load, *self._steps = build_steps(steps)
        self._padding = testing.preprocessor.get("test_cfg") or {}
        pad_value = np.array(testing.preprocessor.get("pad_val", 0), np.float32)
        mean, scale = (np.array(card_input.in_ir_order(one), np.float32) for one in (card_input.mean, card_input.scale))
        self._pixel = mean + pad_value * scale
        self._input = card_input
        self._to_grey = [built for built, step in zip(self._steps, steps[1:]) if step["type"] == "RGB2Gray"]
        self._blank_channels = 3 if self._to_grey else card_input.channels
        self._loads_pictures = card_input.is_plain_color and testing.loads_plain_pictures
        self._to_float32 = bool(steps[0].get("to_float32"))

    def prepare(self, path: Path) -> Prepared:
        """The image in a file; ImageError if it is not one, or if a step does not take it."""
        return self._prepared(lambda: self._loaded(path), str(path))

    def load(self, path: Path) -> Image:
        """The image as the first step loads it, in grey if a step does that; ImageError if it does not load, or has
        channels that the model does not take."""
        try:
            loaded = self._loaded(path)
            for step in self._to_grey:
                loaded = step(loaded)
            image = loaded["img"]
        except ImageError:
            raise
        except Exception as error:  # as in _prepared
            raise ImageError(f"{path}: the test pipeline does not load it: {first_line(error)}") from error
        if image.dtype == np.uint8:
            warn_of_cut(path)
        return with_channels(as_known_type(image), self._input, str(path))

    def _loaded(self, path: Path) -> dict[str, Any]:
        if path.suffix.lower() != NUMPY:
            loaded = self._load({"img_path": str(path)})
            check_finite(path, loaded["img"])
            return loaded
        image = read_bands(path)  # mmsegmentation's loader does not read these files
        if self._loads_pictures:
            image = to_bgr(as_bytes(path, with_channels(image, self._input, str(path))))
        image = image.astype(np.float32) if self._to_float32 else image
        return {"img_path": str(path), "img": image, "img_shape": image.shape[:2], "ori_shape": image.shape[:2]}

    def prepare_decoded(self, image: Image, named: str) -> Prepared:
        """The image [H, W, C], colours as BGR; ImageError, which names it `named`, if a step does not take it."""
        size = image.shape[:2]
        return self._prepared(lambda: {"img": image, "img_shape": size, "ori_shape": size}, named)

    def size_of(self, original: Size) -> Size:
        """The size to which a picture of the size `original` is brought, with its padding."""
        blank = np.zeros((*original, self._blank_channels), np.uint8)
        return self.prepare_decoded(blank, f"an image of {original[1]}x{original[0]}").size

    def _prepared(self, load: Callable[[], dict[str, Any]], named: str) -> Prepared:
        try:
            results = load()
            for step in self._steps:
                results = step(results)
            image = results["img"]
        except ImageError:
            raise
        except Exception as error:  # OpenCV's and mmcv's errors are of many kinds
            raise ImageError(f"{named}: the test pipeline does not take it: {first_line(error)}") from error
        image = with_channels(image, self._input, named)
        image = image if image.dtype == np.uint8 else image.astype(np.float32)
        rows, columns = image.shape[:2]
        return Prepared(self._pad(image), (rows, columns), tuple(results["ori_shape"][:2]))

    def _pad(self, image: Image) -> Image:
        size = _padded_size((image.shape[0], image.shape[1]), self._padding)
        return image if size == image.shape[:2] else padded(image, size, self._pixel)


def with_channels(image: Image, card_input: Input, named: str) -> Image:
    """`image`, [H, W] or [H, W, C], as [H, W, C] with the model's channels; ImageError if it has others.

    One channel serves as each of three colours: so mmsegmentation normalises it.
    """
    image = image[:, :, None] if image.ndim == 2 else image
    if image.ndim == 3 and (image.shape[2], card_input.channels) == (1, 3):
        image = np.repeat(image, 3, axis=2)
    if image.ndim != 3 or image.shape[2] != card_input.channels:
        has = f"{image.shape[2]} channels" if image.ndim == 3 else f"the shape {list(image.shape)}"
        raise ImageError(
            f"{named}: has {has}, the model takes {card_input.channels}",
            "Give an image with the channels that the model was trained on, [height, width, channels].",
        )
    return image


def build_steps(steps: Sequence[Mapping[str, Any]]) -> list[_Step]:
    """mmsegmentation's objects for the steps of a pipeline; CardError if one does not build."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing optional packages, and LoadAnnotations' of its own argument
        provide_mmcv_ops()
        import mmseg.datasets  # noqa: F401 (registers the steps)
        from mmseg.registry import TRANSFORMS

        built = []
        for step in steps:
            try:
                built.append(TRANSFORMS.build(_with_tuples(step)))
            except Exception as error:  # the classes raise errors of any kind for arguments that they do not expect
                raise CardError(f"testing: the step {step['type']} does not build: {first_line(error)}") from error
    return built


def windows(size: Size, testing: Testing) -> list[tuple[slice, slice]]:
    """The rows and columns of each image that the network is given, of a prepared image of `size`.

    In mode whole it is one. In mode slide they are those of EncoderDecoder.slide_inference, in its order.
    """
    if testing.mode == "whole":
        return [(slice(0, size[0]), slice(0, size[1]))]
    assert testing.crop_size and testing.stride  # Testing has checked it
    (rows, columns), (height, width), (down, right) = size, testing.crop_size, testing.stride
    places = []
    for row in range(max(rows - height + down - 1, 0) // down + 1):
        for column in range(max(columns - width + right - 1, 0) // right + 1):
            bottom, end = min(row * down + height, rows), min(column * right + width, columns)
            places.append((slice(max(bottom - height, 0), bottom), slice(max(end - width, 0), end)))
    return places


def _padded_size(size: Size, padding: Mapping[str, Any]) -> Size:
    """As stack_batch pads on the right and below: to `size`, or to multiples of `size_divisor`."""
    rows, columns = size
    if padding.get("size") is not None:
        height, width = padding["size"]
        return max(rows, height), max(columns, width)
    divisor = padding.get("size_divisor") or 1
    return -(-rows // divisor) * divisor, -(-columns // divisor) * divisor


def _with_tuples(value: Any) -> Any:
    """Lists as tuples, which a config has and mmcv requires."""
    if isinstance(value, Mapping):
        return {key: _with_tuples(inner) for key, inner in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
