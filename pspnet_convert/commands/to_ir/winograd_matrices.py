"""The constant matrices of a 3-tap convolution along one side of a map, by Winograd's algorithm (see winograd.py).

F(m, 3) gives m results from m + 2 inputs with m + 2 products, one for each interpolation point, where the plain
convolution has 3 m. Toom and Cook's construction: with points p_1 .. p_{n-1} and infinity, n = m + 2,

    y = A^T [(G w) * (B^T x)]                      x [n], w [3], y [m]; * by element
    A^T [m, n]: column i is (1, p_i, .., p_i^{m-1}), the last (0, .., 0, 1)
    G   [n, 3]: row i is (1, p_i, p_i^2) / prod_{j != i} (p_i - p_j), the last (0, 0, 1)
    B^T [n, n]: row i has the coefficients of prod_{j != i} (t - p_j), the last those of prod_j (t - p_j)

Sources: Lavin and Gray 2015, arXiv 1509.09308; Barabasz et al. 2018, arXiv 1803.10986, on the points and the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import prod

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
KERNEL = 3

# The points of smallest error, by m. For m = 4 of 110 pairs of small fractions p < q in 0, +-p, +-q: in float32, 512
# channels, the results are 1.6e-6 rms off with 2/3 and 3/2, and 3.6e-6 with the usual 1 and 2. m = 2: 0.6e-6.
_POINTS = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2)),
}


@dataclass(frozen=True)
class Side:
    """The matrices of one side of a map of `length` values, for `points` products in each of `tiles` tiles.

    `given` [points, tiles, length]: from the map. `weights` [points, 3]: from the taps. `result`
    [length, points, tiles]: from the products to the convolved map, of the same length.
    """

    given: Matrix
    weights: Matrix
    result: Matrix

    @property
    def points(self) -> int:
        return self.given.shape[0]

    @property
    def tiles(self) -> int:
        return self.given.shape[1]

    @property
    def length(self) -> int:
        return self.given.shape[2]


@cache
def side(length: int, dilation: int) -> Side:
    """F(4, 3) along a side of `length`, or F(2, 3) where it needs no more products; padding is `dilation` zeros.

    A convolution of dilation d is d convolutions on interleaved grids, so a tile has every d-th value. The matrices
    have zeros for what lies outside of the map.
    """
    # The first is the smallest: of equal ones that of the smaller error.
    sizes = sorted(_POINTS, key=lambda size: (size + KERNEL - 1) * len(_tiles(length, dilation, size)))
    return _side(length, dilation, sizes[0])


def _side(length: int, dilation: int, size: int) -> Side:
    transforms = transform(size)
    tiles = _tiles(length, dilation, size)
    points = size + KERNEL - 1
    given, result = np.zeros((points, len(tiles), length)), np.zeros((length, points, len(tiles)))
    for number, first in enumerate(tiles):
        for tap in range(points):
            place = first + dilation * (tap - 1)
            if 0 <= place < length:
                given[:, number, place] = transforms.given[:, tap]
        for row in range(size):
            place = first + dilation * row
            if place < length:
                result[place, :, number] = transforms.result[row]
    return Side(given, transforms.weights, result)


def _tiles(length: int, dilation: int, size: int) -> list[int]:
    """The first place of each tile: of `size` places on one of the interleaved grids."""
    return [first for grid in range(min(dilation, length)) for first in range(grid, length, dilation * size)]


@dataclass(frozen=True)
class Transform:
    """F(m, 3): `given` is B^T [n, n], `weights` G [n, 3], `result` A^T [m, n]."""

    given: Matrix
    weights: Matrix
    result: Matrix


@cache
def transform(size: int) -> Transform:
    """F(`size`, 3), rounded to float64 from exact fractions."""
    points = _POINTS[size]
    others = [[one for one in points if one != point] for point in points]
    given = [_coefficients(roots) for roots in [*others, points]]
    weights = [
        [point**power / prod(point - one for one in rest) for power in range(KERNEL)]
        for point, rest in zip(points, others)
    ]
    weights.append([Fraction(0)] * (KERNEL - 1) + [Fraction(1)])
    result = [[*(point**power for point in points), Fraction(int(power == size - 1))] for power in range(size)]
    return Transform(_matrix(given), _matrix(weights), _matrix(result))


def _coefficients(roots: Sequence[Fraction]) -> list[Fraction]:
    """Of the polynomial with these roots, constant first."""
    found = [Fraction(1)]
    for root in roots:
        found = [low - root * high for low, high in zip([Fraction(0), *found], [*found, Fraction(0)])]
    return found


def _matrix(rows: Sequence[Sequence[Fraction]]) -> Matrix:
    longest = max(map(len, rows))
    return np.array([[float(value) for value in row] + [0.0] * (longest - len(row)) for row in rows])
