"""Read images with any number of channels (bands) and bits: PNG, TIFF, NumPy's .npy, and what Pillow reads.

Values and the order of channels stay as they are stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.errors import ImageError, first_line
from pspnet_convert.image_shape import MAX_CHANNELS
from pspnet_convert.runtimes.bit_depth import NUMPY, bits_of, is_tiff, warn_of_cut
from pspnet_convert.runtimes.images import RGB, cut_to_bytes, grey_values, most_pixels, open_picture, too_many_pixels
from pspnet_convert.runtimes.input_form import Image

_KEPT = ("uint8", "uint16", "int16", "float32")
_GREY, _BYTES = ("L", "I;16", "I;16B", "F"), ("RGB", "RGBA", "LA")  # Pillow's modes


def read_bands(path: Path) -> Image:
    """The image [H, W, C], uint8, uint16, int16 or float32, its channels in the order of the file.

    Other numbers become float32. Pictures that Pillow reads are rotated as their EXIF says. ImageError for a file that
    is no image, is damaged, has more pixels than Pillow allows, or values that are not finite.
    """
    if not path.is_file():
        raise ImageError(f"{path}: there is no such image")
    if path.suffix.lower() == NUMPY:
        array = _read_npy(path)
    elif is_tiff(path):
        array = _read_tiff(path)
    else:
        array = _read_picture(path)
    return _checked(path, array)


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        # Mapped, so that a header with a huge shape takes no memory. No pickle: it would run code.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy's reader raises errors of many kinds for a damaged file
        raise ImageError(f"{path}: cannot be read as a NumPy array: {first_line(error)}") from error
    if not isinstance(array, np.ndarray):
        raise ImageError(f"{path}: is an archive of several arrays", "Save each image with numpy.save.")
    return array


def _read_tiff(path: Path) -> NDArray[Any]:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            axes, shape = str(series.axes), tuple(int(side) for side in series.shape)
            rows, columns = axes.index("Y"), axes.index("X")
            _check_pixels(path, shape[rows], shape[columns])
            others = [place for place in range(len(axes)) if place not in (rows, columns)]
            several = [place for place in others if shape[place] > 1]
            if len(several) > 1:
                raise ImageError(f"{path}: has {list(shape)} values ({axes}), not [height, width, channels]")
            _check_channels(path, [shape[rows], shape[columns], *(shape[place] for place in several)])
            array = series.asarray().transpose(rows, columns, *others)
            return array.reshape(shape[rows], shape[columns], -1)
    except ImageError:
        raise
    except Exception as error:  # tifffile raises errors of many kinds for a damaged file
        reason = first_line(error)
        if "imagecodecs" in reason:
            picture = open_picture(path)  # Pillow has LZW and JPEG, but cuts several channels to bytes
            if picture.mode in _GREY or (picture.mode in _BYTES and bits_of(path) == 8):
                return np.asarray(picture)
            advice = "Install it: pip install imagecodecs. Or save the image without compression."
            raise ImageError(f"{path}: its compression needs the package imagecodecs ({reason})", advice) from error
        raise ImageError(f"{path}: cannot be read as a TIFF: {reason}") from error


def _read_picture(path: Path) -> NDArray[Any]:
    picture = open_picture(path)
    if picture.mode in ("RGB", "RGBA") and bits_of(path) > 8:  # Pillow cuts them to bytes
        return _by_opencv(path)
    if picture.mode in ("P", "PA", "YCbCr", "LAB", "HSV", "RGBX", "RGBa", "La"):
        picture = picture.convert("RGBA" if "transparency" in picture.info or picture.mode == "PA" else "RGB")
    return grey_values(picture) if picture.mode.startswith("I") else np.asarray(picture)


def _by_opencv(path: Path) -> NDArray[Any]:
    import cv2

    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.ndim != 3:
        raise ImageError(f"{path}: cannot be read with all of its bits", "Save it as TIFF or .npy.")
    return np.asarray(decoded[..., [2, 1, 0, *range(3, decoded.shape[2])]])


def _checked(path: Path, array: NDArray[Any]) -> Image:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or not array.size:
        raise ImageError(f"{path}: has values of shape {list(array.shape)}, not [height, width, channels]")
    _check_channels(path, array.shape)
    _check_pixels(path, *array.shape[:2])
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "uif":
        raise ImageError(f"{path}: has values of type {array.dtype}, which are no numbers of an image")
    found = as_known_type(array)
    check_finite(path, found)
    return found


def check_finite(path: Path, image: NDArray[Any]) -> None:
    """Raise ImageError for an image with NaN or infinity, of which no model makes anything."""
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ImageError(f"{path}: has values that are not finite (NaN or infinity)", "Give each pixel a number.")


def as_known_type(array: NDArray[Any]) -> Image:
    """Numbers of a type that this tool does not work with as float32."""
    name = array.dtype.name  # without the order of bytes
    known: Image = np.ascontiguousarray(array, dtype=name if name in _KEPT else "float32")
    return known


def as_bytes(path: Path, image: Image) -> Image:
    """`image`, read from `path`, for a model of bytes; with a warning if it is cut (cut_to_bytes)."""
    if image.dtype == np.uint8:
        return image
    warn_of_cut(path)
    return cut_to_bytes(image)


def _check_pixels(path: Path, rows: int, columns: int) -> None:
    if rows * columns > most_pixels():
        raise too_many_pixels(path)


def _check_channels(path: Path, shape: Sequence[int]) -> None:
    if math.prod(shape[2:]) > MAX_CHANNELS:
        raise ImageError(f"{path}: has values of shape {list(shape)}, more than {MAX_CHANNELS} channels")


def viewable(image: Image) -> RGB:
    """A picture of an image [H, W, C] in the order of its file: its first three channels, or the first one in grey.

    Bytes are shown as they are. Of other numbers, each channel is stretched from its 2nd to its 98th percentile.
    """
    shown = image[:, :, :3] if image.shape[2] >= 3 else image[:, :, :1]
    if shown.dtype != np.uint8:
        values = shown.astype(np.float32)
        low, high = np.percentile(values, (2, 98), axis=(0, 1))
        stretched = (values - low) / np.where(high > low, high - low, 1)
        shown = np.rint(255 * stretched.clip(0, 1)).astype(np.uint8)
    return np.ascontiguousarray(shown if shown.shape[2] == 3 else np.repeat(shown, 3, axis=2))
