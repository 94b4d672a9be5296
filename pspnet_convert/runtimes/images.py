"""Read images, fit them to a model's size, and turn label maps into images.

Images are uint8 arrays [H, W, 3], in RGB; in BGR (the IR's order) where a function says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from pspnet_convert.cards.card import Input, ModelCard
from pspnet_convert.errors import ImageError

RGB = NDArray[np.uint8]
Size = tuple[int, int]  # rows, columns
Pixel = TypeVar("Pixel", np.uint8, np.float32)
SAMPLES = Path(__file__).parent.parent / "data" / "samples"  # photographs that come with the tool
# Of a data set's files, in the order they are looked for.
DATASET_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm")


@dataclass(frozen=True)
class Fitted:
    """An image scaled to fit the model's size, in the top left corner; the rest is padding.

    `image`: RGB uint8 [model height, model width, 3]. The picture covers its first `height` rows and `width` columns.
    """

    image: RGB
    height: int
    width: int

    def crop(self, labels: NDArray[Any]) -> NDArray[Any]:
        """The part of a label map [model height, model width] that the picture covers."""
        return labels[: self.height, : self.width]


def read_image(path: Path) -> RGB:
    """The picture as RGB, rotated as its EXIF says; ImageError if the file is no picture or has too many pixels."""
    picture = open_picture(path)
    if picture.mode.startswith("I;16"):  # Pillow would clip it at 255
        picture = Pillow.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return np.asarray(picture.convert("RGB"))


def read_bgr(path: Path) -> NDArray[np.uint8]:
    """The picture as BGR [H, W, 3], as OpenCV decodes it, rotated as its EXIF says; ImageError as in read_image."""
    import cv2

    whole = read_image(path)  # says what is wrong with a damaged file, of which OpenCV would decode a part
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    return to_bgr(whole) if decoded is None else np.asarray(decoded, np.uint8)


def open_picture(path: Path) -> Pillow.Image:
    """The picture in its own mode, decoded and rotated as its EXIF says; ImageError as in read_image."""
    return _opened(path, ImageOps.exif_transpose)


def open_as_stored(path: Path) -> Pillow.Image:
    """The picture in its own mode, decoded and not rotated; ImageError as in read_image."""
    return _opened(path, lambda picture: picture.copy())


def _opened(path: Path, take: Callable[[Pillow.Image], Pillow.Image]) -> Pillow.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            with Pillow.open(path) as opened:
                return take(opened)
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: is not an image", "Give a JPEG, PNG or another format that Pillow reads.") from error
    except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError) as error:
        raise ImageError(f"{path}: has too many pixels", "Scale it down first.") from error
    # For a damaged file, Pillow's decoders raise RuntimeError, struct.error, SyntaxError and more.
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"{path}: cannot be read as an image: {reason}") from error


def picture_size(path: Path) -> Size | None:
    """The size of the picture in a file, rotated as its EXIF says, from its header; None if that cannot be read."""
    try:
        with Pillow.open(path) as picture:
            width, height = picture.size
            is_turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:  # read_image says what is wrong with the file
        return None
    return (width, height) if is_turned else (height, width)


def fit(image: RGB, height: int, width: int, card_input: Input) -> Fitted:
    """Scale `image` (bilinear, aspect kept) to fit height x width; pad right and below with the mean colour."""
    scale = min(height / image.shape[0], width / image.shape[1])
    rows, columns = (max(1, int(side * scale)) for side in image.shape[:2])
    resized = Pillow.fromarray(image).resize((columns, rows), Pillow.Resampling.BILINEAR)
    colour = np.rint(mean_colour(card_input)).astype(np.uint8)
    return Fitted(padded(np.asarray(resized), (height, width), colour), rows, columns)


def fitted_bgr(path: Path, height: int, width: int, card_input: Input) -> NDArray[np.uint8]:
    """The picture in a file, fitted to height x width, in BGR; ImageError as in read_image."""
    return to_bgr(fit(read_image(path), height, width, card_input).image)


def mean_colour(card_input: Input) -> NDArray[np.float64]:
    """The card's mean as an RGB pixel [3]."""
    return np.array(card_input.mean if card_input.color_order == "RGB" else card_input.mean[::-1])


def padded(image: NDArray[Any], size: Size, colour: NDArray[Pixel]) -> NDArray[Pixel]:
    """`image` [H, W, 3] in the top left corner of `size` (rows, columns) pixels of `colour` and its number type."""
    canvas = np.empty((*size, 3), colour.dtype)
    canvas[:] = colour
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


def resized_labels(labels: NDArray[Any], height: int, width: int) -> NDArray[np.uint8]:
    """A label map [H, W] resized to [height, width] by Pillow's nearest neighbour."""
    picture = Pillow.fromarray(labels.astype(np.uint8))
    return np.asarray(picture.resize((width, height), Pillow.Resampling.NEAREST))


def to_bgr(image: RGB) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image[:, :, ::-1])


def free_name(stem: str, taken: set[str], key: Callable[[str], str] = str) -> str:
    """The first of `stem`, `stem-2`, `stem-3` ... with a `key` that is not in `taken`; adds that key to `taken`."""
    name, number = stem, 1
    while key(name) in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(key(name))
    return name


def palette_image(labels: NDArray[np.uint8], card: ModelCard) -> Pillow.Image:
    """A label map [H, W] as a palette image: pixels are class numbers, the palette is the card's."""
    image = Pillow.fromarray(labels)
    image.putpalette([value for colour in card.palette for value in colour])
    return image
