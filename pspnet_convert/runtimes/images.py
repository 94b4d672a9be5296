"""Read images, fit them to a model's size, and turn label maps into images.

Pictures are uint8 arrays [H, W, 3], in RGB; in BGR (the IR's order) where a function says so. Images of other models
have any number of channels (bands.py).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from pspnet_convert.cards.card import Input, ModelCard
from pspnet_convert.errors import ImageError
from pspnet_convert.runtimes.bit_depth import NUMPY, is_tiff, warn_of_cut
from pspnet_convert.runtimes.input_form import Image

RGB = NDArray[np.uint8]
Size = tuple[int, int]  # rows, columns
SAMPLES = Path(__file__).parent.parent / "data" / "samples"  # photographs that come with the tool
_ROWS_AT_ONCE = 256  # pixels
# Of a data set's files, in the order they are looked for.
DATASET_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".npy")


@dataclass(frozen=True)
class Fitted:
    """An image scaled to fit the model's size, in the top left corner; the rest is padding.

    `image`: [model height, model width, C]. The picture covers its first `height` rows and `width` columns.
    """

    image: Image
    height: int
    width: int

    def crop(self, labels: NDArray[Any]) -> NDArray[Any]:
        """The part of a label map [model height, model width] that the picture covers."""
        return labels[: self.height, : self.width]


def read_image(path: Path) -> RGB:
    """The picture as RGB, rotated as its EXIF says; ImageError if the file is no picture or has too many pixels.

    More than 8 bits are cut off, with a warning.
    """
    picture = open_picture(path)
    warn_of_cut(path)
    if picture.mode.startswith(("I", "F")):  # Pillow would clip 16 bits at 255
        picture = Pillow.fromarray(cut_to_bytes(grey_values(picture)))
    return _pixels(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _pixels(picture: Pillow.Image) -> RGB:
    """The pixels of a picture in RGB, some rows at a time: a large picture is in memory once more, not twice."""
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    for top in range(0, picture.height, _ROWS_AT_ONCE):
        bottom = min(top + _ROWS_AT_ONCE, picture.height)
        pixels[top:bottom] = np.asarray(picture.crop((0, top, picture.width, bottom)))
    return pixels


def grey_values(picture: Pillow.Image) -> NDArray[Any]:
    """The values of a picture in grey [H, W]. Pillow has 16 bits of some formats in 32."""
    values = np.asarray(picture)
    is_wide = picture.mode == "I" and values.size and values.min() >= 0 and values.max() <= np.iinfo(np.uint16).max
    return values.astype(np.uint16) if is_wide or picture.mode.startswith("I;16") else values


def cut_to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """The upper 8 of 16 bits; other numbers rounded, and within 0..255."""
    if values.dtype == np.uint16:
        return (values // 256).astype(np.uint8)
    return np.rint(values).clip(0, 255).astype(np.uint8)


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
            # Pillow warns of half as many pixels as it refuses. A map or a scan may have them.
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
            with Pillow.open(path) as opened:
                return take(opened)
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: is not an image", "Give a JPEG, PNG or another format that Pillow reads.") from error
    except Pillow.DecompressionBombError as error:
        raise too_many_pixels(path) from error
    # For a damaged file, Pillow's decoders raise RuntimeError, struct.error, SyntaxError and more.
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"{path}: cannot be read as an image: {reason}") from error


def too_many_pixels(path: Path) -> ImageError:
    return ImageError(f"{path}: has too many pixels", "Scale it down first.")


def most_pixels() -> float:
    """As many pixels as Pillow reads in one picture: a larger one may be made to exhaust the memory."""
    return math.inf if Pillow.MAX_IMAGE_PIXELS is None else 2 * Pillow.MAX_IMAGE_PIXELS


def picture_size(path: Path) -> Size | None:
    """The size of the image in a file, rotated as its EXIF says, from its header; None if that cannot be read."""
    try:
        if path.suffix.lower() == NUMPY:
            return _stored_size(path)
        with warnings.catch_warnings(), Pillow.open(path) as picture:
            warnings.simplefilter("ignore")  # of EXIF data that a TIFF does not have
            width, height = picture.size
            is_turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:  # the file's reader says what is wrong with it, and whether that stops the work
        with suppress(Exception):  # Pillow does not read every TIFF
            return _stored_size(path) if is_tiff(path) else None
        return None
    return (width, height) if is_turned else (height, width)


def _stored_size(path: Path) -> Size:
    """The size in a TIFF or .npy file; raises errors of any kind for a damaged file."""
    if path.suffix.lower() == NUMPY:
        rows, columns = np.load(path, mmap_mode="r", allow_pickle=False).shape[:2]
        return rows, columns
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        return int(series.shape[series.axes.index("Y")]), int(series.shape[series.axes.index("X")])


def fit(image: Image, height: int, width: int, card_input: Input) -> Fitted:
    """Scale `image` (bilinear, aspect kept) to fit height x width; pad right and below with the card's mean.

    Its channels are RGB, or as they are stored.
    """
    scale = min(height / image.shape[0], width / image.shape[1])
    rows, columns = (max(1, int(side * scale)) for side in image.shape[:2])
    pixel = as_type(mean_pixel(card_input), image)
    return Fitted(padded(_resized(image, rows, columns), (height, width), pixel), rows, columns)


def _resized(image: Image, rows: int, columns: int) -> Image:
    """By Pillow's bilinear filter, which takes three bytes, or one number, at a pixel."""
    size, filter_ = (columns, rows), Pillow.Resampling.BILINEAR
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.asarray(Pillow.fromarray(image).resize(size, filter_))
    bands = (np.ascontiguousarray(image[:, :, band], np.float32) for band in range(image.shape[2]))
    return as_type(np.stack([np.asarray(Pillow.fromarray(band).resize(size, filter_)) for band in bands], -1), image)


def as_type(values: NDArray[Any], like: Image) -> Image:
    """`values` as the number type of `like`: rounded, and within the type's limits, if that has whole numbers."""
    if like.dtype.kind == "f":
        return values.astype(like.dtype)
    limits = np.iinfo(like.dtype.name)
    return np.rint(values).clip(limits.min, limits.max).astype(like.dtype)


def mean_pixel(card_input: Input) -> NDArray[np.float64]:
    """The card's mean, a value for each channel: of colours RGB, of others as they are stored."""
    return np.array(card_input.mean[::-1] if card_input.color_order == "BGR" else card_input.mean)


def padded(image: Image, size: Size, pixel: Image) -> Image:
    """`image` [H, W, C] in the top left corner of `size` (rows, columns) pixels of `pixel` [C] and its number type."""
    canvas: Image = np.empty((*size, image.shape[2]), pixel.dtype)
    canvas[:] = pixel
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


def resized_labels(labels: NDArray[Any], height: int, width: int) -> NDArray[np.uint8]:
    """A label map [H, W] resized to [height, width] by Pillow's nearest neighbour."""
    picture = Pillow.fromarray(labels.astype(np.uint8))
    return np.asarray(picture.resize((width, height), Pillow.Resampling.NEAREST))


def to_bgr(image: Image) -> Any:
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
