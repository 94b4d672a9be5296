"""How many bits the values in an image file have, from its header; and the warning where they are cut to 8."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

NUMPY = ".npy"
_HEAD = 4096  # bytes
_PNG, _PNG_BITS = b"\x89PNG\r\n\x1a\n", 24  # the place of the byte that says it
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG_2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_SIZ, _SIZ_BITS = b"\xff\x51", 40  # JPEG 2000's marker of sizes; the place of the first channel's bits after it begins
_BITS_OF_MODE = {"I": 32, "F": 32}
log = logging.getLogger(__name__)


def bits_of(path: Path) -> int:
    """The bits of a value; 8 where the header does not say more."""
    try:
        return _bits_of(path)
    except Exception:  # whoever reads the file says what is wrong with it
        return 8


def _bits_of(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if path.suffix.lower() == NUMPY:
        return 8 * np.load(path, mmap_mode="r", allow_pickle=False).dtype.itemsize
    if head.startswith(_PNG):
        return head[_PNG_BITS]
    if head.startswith(_TIFF):
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            return 8 * tiff.series[0].dtype.itemsize
    if head.startswith(_JPEG_2000):
        return (head[head.index(_SIZ) + _SIZ_BITS] & 0x7F) + 1
    if head.startswith((b"P5", b"P6")):  # the fourth word is the largest value
        lines = (line.partition(b"#")[0] for line in head.split(b"\n"))
        return int(b" ".join(lines).split()[3]).bit_length()
    with Pillow.open(path) as picture:
        return 16 if picture.mode.startswith("I;16") else _BITS_OF_MODE.get(picture.mode, 8)


def warn_of_cut(path: Path) -> None:
    """Warn if an image that is cut to 8 bits has more; on the command line once for each folder."""
    if (bits := bits_of(path)) > 8:
        once = {"once": f"bits of {path.parent}"}
        log.warning("%s: has %d bits a value and is cut to 8, as the model takes them", path, bits, extra=once)


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF does."""
    try:
        with path.open("rb") as file:
            return file.read(4) in _TIFF
    except OSError:
        return False
