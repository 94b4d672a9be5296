"""Faults in the resize of the logits to the image's size: another rule than the reference's.

Any such resize is a product with two matrices, of the rows and of the columns: out = R logits C^T. Row i of R has the
weights of the map's cells for the place of pixel i. The places are those of ONNX's Resize (coordinate_transformation_
mode), https://onnx.ai/onnx/operators/onnx__Resize.html; cubic weights are Keys' (1981) with a = -0.75 or -0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.causes.evidence import Cause, Evidence, Logits, Tests
from pspnet_convert.commands.verify.causes.reference_runs import run_before_resize
from pspnet_convert.runtimes.logit_error import error_of

_Places = NDArray[np.float64]
_TRIED = 2  # classes on which a rule is tried first
_PROMISING = 0.02  # of these logits


def resize_causes(evidence: Evidence) -> Tests:
    small = run_before_resize(evidence.network, evidence.tensor)
    if small is None:
        return
    found = evidence.found.logits
    for what, rows, columns in rules(small.shape[1:], found.shape[1:]):
        tried = rows @ small[-_TRIED:].astype(np.float64) @ columns.T
        if np.linalg.norm(tried - found[-_TRIED:]) <= _PROMISING * np.linalg.norm(tried):
            yield evidence.explained_by("output", what, _resized(small, rows, columns))


def argmax_before_resize(evidence: Evidence) -> Cause | None:
    """For logits of another size than the image's: whether they are those before the resize."""
    small = run_before_resize(evidence.network, evidence.tensor)
    found = evidence.found.logits
    if small is None or small.shape != found.shape:
        return None
    error = error_of(found, small)
    if not error.within(evidence.allowed):
        return None
    words = f"the reference's logits before its resize are {error.rms:.1e} from this model's"
    return Cause("output", "the argmax comes before the resize to the image's size", words)


def _resized(logits: Logits, rows: _Places, columns: _Places) -> Logits:
    return np.stack([rows @ plane.astype(np.float64) @ columns.T for plane in logits]).astype(np.float32)


def rules(size: Sequence[int], resized: Sequence[int]) -> Iterator[tuple[str, _Places, _Places]]:
    """Each rule in words, with its matrices for rows and columns."""
    kernels = {
        "bilinear": linear,
        "by cubic interpolation": lambda places, cells: cubic(places, cells, -0.75),
        "by cubic interpolation with a = -0.5": lambda places, cells: cubic(places, cells, -0.5),
        "to the nearest": lambda places, cells: nearest(np.ceil(places - 0.5), cells),
        "to the nearest (the next at ties)": lambda places, cells: nearest(np.floor(places + 0.5), cells),
        "to the nearest (rounded down)": lambda places, cells: nearest(np.floor(places + 1e-9), cells),
        "to the nearest (rounded up)": lambda places, cells: nearest(np.ceil(places - 1e-9), cells),
    }
    for (of_kernel, kernel), (of_places, place) in product(kernels.items(), _PLACES.items()):
        rows, columns = (kernel(place(cells, pixels), cells) for cells, pixels in zip(size, resized))
        kind = "" if of_kernel == "bilinear" else f" {of_kernel}"
        yield f"the logits are resized{kind}{of_places}", rows, columns


def _half_pixel(cells: int, pixels: int) -> _Places:
    return (np.arange(pixels) + 0.5) * cells / pixels - 0.5


def _fixed_factor(cells: int, pixels: int) -> _Places:
    """By the next whole factor, and what is too much cut off."""
    return (np.arange(pixels) + 0.5) / -(-pixels // cells) - 0.5


_PLACES: dict[str, Callable[[int, int], _Places]] = {
    " with half-pixel centres": _half_pixel,
    " with align_corners": lambda cells, pixels: np.arange(pixels) * (cells - 1) / max(pixels - 1, 1),
    " without the half-pixel offset (asymmetric)": lambda cells, pixels: np.arange(pixels) * cells / pixels,
    " by a whole factor, and cut to size": _fixed_factor,
}


def linear(places: _Places, cells: int) -> NDArray[np.float64]:
    places = places.clip(0, cells - 1)
    below = np.floor(places).astype(np.intp)
    matrix = np.zeros((len(places), cells))
    rows = np.arange(len(places))
    np.add.at(matrix, (rows, below), 1 - (places - below))
    np.add.at(matrix, (rows, np.minimum(below + 1, cells - 1)), places - below)
    return matrix


def nearest(places: _Places, cells: int) -> NDArray[np.float64]:
    matrix = np.zeros((len(places), cells))
    matrix[np.arange(len(places)), places.clip(0, cells - 1).astype(np.intp)] = 1
    return matrix


def cubic(places: _Places, cells: int, a: float) -> NDArray[np.float64]:
    """Cells outside the map count as the nearest inside."""
    matrix = np.zeros((len(places), cells))
    below = np.floor(places).astype(np.intp)
    for tap in range(-1, 3):
        distance = np.abs(places - (below + tap))
        near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
        far = a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a
        weight = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
        np.add.at(matrix, (np.arange(len(places)), (below + tap).clip(0, cells - 1)), weight)
    return matrix
