"""OpenCV's bilinear resize of 8-bit images (INTER_LINEAR), written in NumPy from its rules.

Weights are 11-bit fixed-point numbers, rounded to even; rows are blended first, then columns, of which 4 and 16
bits are dropped on the way and 2 rounded in the end (modules/imgproc/src/resize.cpp: HResizeLinear, VResizeLinear).
At exactly half the size in both directions the mean of four pixels is taken instead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ONE = 2048


def resize(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """`image` [H, W, 3] at rows x columns."""
    if image.shape[:2] == (2 * rows, 2 * columns):
        cells = image.reshape(rows, 2, columns, 2, 3).astype(np.int32).sum(axis=(1, 3))
        return ((cells + 2) >> 2).astype(np.uint8)
    left, right, near, far = _taps(image.shape[1], columns, clamp=True)
    wide = image.astype(np.int32)
    across = wide[:, left] * near[None, :, None] + wide[:, right] * far[None, :, None]
    upper, lower, near, far = _taps(image.shape[0], rows, clamp=False)
    above, below = (
        (across[places] >> 4) * weights[:, None, None] >> 16 for places, weights in ((upper, near), (lower, far))
    )
    return ((above + below + 2) >> 2).clip(0, 255).astype(np.uint8)


def _taps(before: int, after: int, *, clamp: bool) -> tuple[NDArray[np.int64], ...]:
    """The two places of each target pixel, and their weights; `clamp`: a place outside has weight 0, as for columns."""
    scale = before / after
    centres = ((np.arange(after) + 0.5) * scale - 0.5).astype(np.float32)
    places = np.floor(centres).astype(np.int64)
    fractions = centres - places.astype(np.float32)
    if clamp:
        outside = (places < 0) | (places >= before - 1)
        fractions[outside] = 0
        places = places.clip(0, before - 1)
    far = np.rint(fractions * np.float32(ONE)).astype(np.int64)
    near = np.rint((1 - fractions) * np.float32(ONE)).astype(np.int64)
    return places.clip(0, before - 1), (places + 1).clip(0, before - 1), near, far
