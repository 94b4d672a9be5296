"""Read the inner tensors of a converted model while it runs, and cut a few of its nodes out as a model of their own.

A tensor is known by its name. `onnx_taps.py` and `ir_taps.py` do this for the two kinds of file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

Values = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Layer:
    """The node that makes a tensor: its name, operation and place in the order of execution, from 0."""

    name: str
    op: str
    index: int


@dataclass(frozen=True)
class Convolution:
    """`weight`: its shape [out, in / groups, height, width]. `results`: its output, then that with a constant added or
    multiplied, as a bias or a BatchNorm does, if nothing else reads the output."""

    given: str
    results: tuple[str, ...]
    weight: tuple[int, ...]


class Part(Protocol):
    """A few nodes of a model as a model of their own. `inputs`: the tensors that it takes; `tensors`: those it makes,
    in the order of execution, the one that it gives last."""

    inputs: Sequence[str]
    tensors: Sequence[str]

    def run(self, values: Values) -> NDArray[Any]:
        """The last tensor, from the values of the inputs. ArtifactError if the runtime refuses the part."""

    def save(self, folder: Path) -> Path:
        """Write the part into `folder` as `layer.onnx`, or `layer.xml` and `layer.bin`; gives the path."""


class LayerTaps(Protocol):
    """A model whose inner tensors can be read. `layers`: what makes each tensor, in the order of execution.

    `image`: the name of its input; `output`: its label map; `logits`: the argmax's input, None without an argmax.
    """

    layers: Mapping[str, Layer]
    image: str
    output: str
    logits: str | None

    def run(self, names: Collection[str], given: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The tensors `names` for the input `given`; only these are kept. ArtifactError if the model does not run."""

    def part(self, known: Collection[str], target: str) -> Part:
        """The nodes from the tensors `known`, or the input, to `target`."""

    def sizes(self, batch: int) -> Mapping[str, int]:
        """Bytes of each float32 tensor of a known rank; a dimension that is not fixed counts as `batch`."""

    def convolutions(self) -> list[Convolution]:
        """Those with constant weights, in the order of execution."""
