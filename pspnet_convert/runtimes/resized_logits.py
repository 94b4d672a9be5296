"""The label map of another size, from logits that are resized before the argmax."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.runtimes.images import Size

_VALUES_AT_ONCE = 1 << 24  # resized logits that are in memory: 64 MiB of float32


def labels_at_size(logits: NDArray[np.float32], size: Size) -> NDArray[np.uint8]:
    """The argmax, uint8 [H, W], of logits [classes, h, w] resized to `size`, bilinear, a few rows at a time.

    As torch's interpolate with align_corners=False: pixel i of n is at (i + 0.5) * m / n - 0.5 of m, no lower than 0.
    """
    classes, height, width = logits.shape
    above, below, down = _neighbours(height, size[0])
    left, right, across = _neighbours(width, size[1])
    labels = np.empty(size, np.uint8)
    rows = max(1, _VALUES_AT_ONCE // (classes * size[1]))
    for top in range(0, size[0], rows):
        band = slice(top, top + rows)
        upper, lower, weight = logits[:, above[band]], logits[:, below[band]], down[band, None]
        between = upper + (lower - upper) * weight
        first, second = between[:, :, left], between[:, :, right]
        second -= first
        second *= across
        second += first
        labels[band] = second.argmax(axis=0)
    return labels


def _neighbours(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each of `new` pixels the two of `old` that it is between, and how near it is to the second, 0..1."""
    places = np.maximum((np.arange(new) + 0.5) * (old / new) - 0.5, 0)
    first = places.astype(np.intp)
    return first, np.minimum(first + 1, old - 1), (places - first).astype(np.float32)
