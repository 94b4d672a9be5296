"""Find out what a model does to an image before its first convolution, from that convolution's output.

A convolution is linear. If the network's input is x_c = sum over d of A[c, d] v_d + t_c, for the image's channels v_d,
the output is y = bias + sum of A[c, d] (W_c * v_d) + sum of t_c (W_c * 1), with W_c the weights for channel c. So least
squares give A and t from y, without running the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pspnet_convert.commands.verify.causes.evidence import Evidence
from pspnet_convert.commands.verify.causes.normalisations import Affine
from pspnet_convert.commands.verify.causes.reference_runs import first_convolution
from pspnet_convert.pytorch.convolutions import is_plain
from pspnet_convert.pytorch.folded import folded_copy

_MARGIN = 8  # cells at the map's borders, which the padding reaches
_SIDE = 24  # so many rows and columns of cells are used
_ROWS = 40_000  # so many numbers
_RIGHT = 2e-6  # of the output left unexplained: float32 rounds that much
_MOST_LEFT, _NEARER = 0.05, 4  # the same of a hypothesis, which leaves so many times less than no fault does
_MOST_MIXED = 16  # channels up to which each may be a mix of all


@dataclass(frozen=True)
class Fit:
    """`affine`: what was applied to the image. `residual`: the part of the output that it leaves unexplained, 0..1."""

    affine: Affine
    residual: float


class FirstLayer:
    """The first convolution of the reference, next to its output in the model: inner cells of it, some of them.

    In most models the BatchNorm after the convolution is in its weights. Both are tried: `convolutions`.
    """

    def __init__(self, convolutions: Sequence[nn.Conv2d], found: NDArray[np.float32]) -> None:
        rows, columns = (_inner(side) for side in found.shape[1:])
        self._places = np.ix_(_spread(len(found), _ROWS // (len(rows) * len(columns))), rows, columns)
        self._shape, self._whole = found.shape, found
        self._convolutions = convolutions
        self._found = self._sampled(found)

    @classmethod
    def of(cls, evidence: Evidence) -> FirstLayer | None:
        """None if the output is not known, or is not that of the reference's first convolution."""
        found = evidence.first_layer
        if found is None or not np.isfinite(found).all():
            return None
        shape = (1, *evidence.tensor.shape[1:])
        copies = [folded_copy(evidence.network, shape), evidence.network]
        convolutions = [first_convolution(copy, evidence.tensor) for copy in copies]
        usable = [one for one in convolutions if one is not None and _gives(one, evidence.tensor, found.shape)]
        return cls(usable, found) if usable else None

    def residual(self, tensor: NDArray[np.float32]) -> float:
        """The part of the model's output that this input [1, C, H, W] of the network leaves unexplained, 0..1."""
        return min(self._left(convolution, tensor) for convolution in self._convolutions)

    def is_right(self, tensor: NDArray[np.float32]) -> bool:
        """Whether this input, and the reference's weights, explain all of it, apart from the borders."""
        return self.residual(tensor) <= _RIGHT

    def is_right_at_borders(self, tensor: NDArray[np.float32]) -> bool:
        """Whether they explain all of it."""
        with torch.inference_mode():
            outputs = [one(torch.from_numpy(tensor))[0].numpy() for one in self._convolutions]
        return min(_share(output - self._whole, self._whole) for output in outputs) <= _RIGHT

    def allows(self, tensor: NDArray[np.float32], without: NDArray[np.float32]) -> bool:
        """Whether the network may have been given `tensor` instead of `without`."""
        return _is_better(self.residual(tensor), self.residual(without))

    def allows_network(self, network: nn.Module, tensor: NDArray[np.float32]) -> bool:
        """Whether the model may be this network, which gets `tensor`, instead of the reference."""
        convolution = first_convolution(network, tensor)
        if convolution is None or not _gives(convolution, tensor, self._shape):
            return False
        return _is_better(self._left(convolution, tensor), self.residual(tensor))

    def fit(self, image: NDArray[np.generic]) -> Fit | None:
        """The least squares' fit, for the image [H, W, C] that the model was given.

        None if there are several: where the convolution gives fewer channels than it takes, or the image has equal
        ones.
        """
        fits = [fit for fit in (self._fit(one, image) for one in self._convolutions) if fit is not None]
        return min(fits, key=lambda fit: fit.residual, default=None)

    def _fit(self, convolution: nn.Conv2d, image: NDArray[np.generic]) -> Fit | None:
        channels = image.shape[2]
        pairs = [(c, d) for c in range(channels) for d in range(channels) if channels <= _MOST_MIXED or c == d]
        given = np.zeros((1, channels, *image.shape[:2]), np.float32)
        bias = self._output(convolution, given)

        def response(channel: int, plane: Any) -> NDArray[np.float64]:
            """The output for `plane` [H, W] in one channel, and 0 in the others."""
            given[0, channel] = plane
            output = self._output(convolution, given)
            given[0, channel] = 0
            return output - bias

        terms = [response(c, image[:, :, d]) for c, d in pairs]
        columns = np.stack([*terms, *(response(c, 1) for c in range(channels))], axis=1)
        sizes = np.maximum(np.linalg.norm(columns, axis=0), np.finfo(np.float64).tiny)
        scaled, _, rank, _ = np.linalg.lstsq(columns / sizes, self._found - bias, rcond=1e-8)
        if rank < columns.shape[1]:
            return None
        solution = scaled / sizes
        matrix = np.zeros((channels, channels))
        for (c, d), value in zip(pairs, solution):
            matrix[c, d] = value
        left = columns @ solution + bias - self._found
        return Fit(Affine(matrix, solution[len(pairs) :]), _share(left, self._found))

    def _left(self, convolution: nn.Conv2d, tensor: NDArray[np.float32]) -> float:
        return _share(self._output(convolution, tensor) - self._found, self._found)

    def _output(self, convolution: nn.Conv2d, tensor: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.inference_mode():
            return self._sampled(convolution(torch.from_numpy(np.ascontiguousarray(tensor)))[0].numpy())

    def _sampled(self, output: NDArray[np.float32]) -> NDArray[np.float64]:
        """Some inner cells of an output [C, h, w], as one row."""
        return output[self._places].astype(np.float64).ravel()


def _is_better(left: float, before: float) -> bool:
    return left <= _MOST_LEFT and _NEARER * left <= before


def _gives(convolution: nn.Conv2d, tensor: NDArray[np.float32], shape: tuple[int, ...]) -> bool:
    """Whether the convolution is a plain one of all channels, and gives an output of `shape`."""
    if not is_plain(convolution) or convolution.groups != 1:
        return False
    with torch.inference_mode():
        return tuple(convolution(torch.from_numpy(tensor)).shape[1:]) == shape


def _inner(side: int) -> NDArray[np.intp]:
    margin = min(_MARGIN, side // 4)
    return margin + _spread(side - 2 * margin, _SIDE)


def _spread(count: int, most: int) -> NDArray[np.intp]:
    """Up to `most` of `count` places, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, max(most, 1))).astype(np.intp))


def _share(left: NDArray[np.floating[Any]], whole: NDArray[np.floating[Any]]) -> float:
    return float(np.linalg.norm(left) / max(np.linalg.norm(whole), np.finfo(np.float64).tiny))
