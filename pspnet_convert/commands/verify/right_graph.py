"""The graph that a model of this tool must be: exported again from the reference, and checked against it.

It has a right value for each tensor that the export names, which PyTorch's modules have not: a module may make several
tensors (a residual block's sum, a pyramid's products), and a function, such as the last resize, is in no module.
ONNX Runtime runs it without fusing anything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.runtimes.backends import TorchBackend
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.io_signature import read_onnx
from pspnet_convert.runtimes.layer_taps import Part, Values
from pspnet_convert.runtimes.logit_error import Error, error_of
from pspnet_convert.runtimes.onnx_taps import OnnxTaps

if TYPE_CHECKING:
    import onnx

    from pspnet_convert.pytorch.network import PSPNet

# What one step may add in float32, relative; and how many times the effect of rounding its constants to FP16.
ONE_STEP = Error(rms=1e-5, largest=3e-5)
_ROUNDED_STEP = Error(rms=4, largest=8)

# FP16 rounds the mean and the scale too, which are in the step that takes the image: each by up to 2**-11.
_OF_MEAN = 2**-10


@dataclass(frozen=True)
class Step:
    """The nodes of the right graph from some tensors to the next: `inputs` to `target`; `tensors` are all that they
    make. `exact` has the reference's weights; `rounded` has them in FP16, for a model with such weights."""

    target: str
    exact: Part
    rounded: Part | None

    @property
    def inputs(self) -> Sequence[str]:
        return self.exact.inputs

    @property
    def tensors(self) -> Sequence[str]:
        return self.exact.tensors


@dataclass(frozen=True)
class OwnError:
    """How far a model's tensor is from what the right step makes of the model's own inputs to it; how far it may be;
    and what the right step makes."""

    error: Error
    allowed: Error
    expected: NDArray[Any]

    @property
    def is_wrong(self) -> bool:
        return not self.error.within(self.allowed)


class RightGraph:
    """`sizes`: bytes of each floating-point tensor, by name. The label map's name is not in it."""

    def __init__(self, exact: OnnxTaps, rounded: OnnxTaps | None, sizes: Mapping[str, int]) -> None:
        self._exact, self._rounded = exact, rounded
        self.sizes = sizes
        assert exact.logits is not None  # write_onnx puts the argmax there
        self.image, self.logits, self.output = exact.image, exact.logits, exact.output
        self.layers = exact.layers

    def module_of(self, tensor: str) -> str:
        """The path of the module that makes it, as the export gives it; `logits` after the network's last module."""
        layer = self.layers[tensor]
        return layer.name.rpartition(f".{layer.op}")[0]

    def step(self, known: Collection[str], target: str) -> Step:
        rounded = self._rounded.part(known, target) if self._rounded else None
        return Step(target, self._exact.part(known, target), rounded)

    def own_error(self, step: Step, values: Values) -> OwnError:
        """`values`: the model's tensors, and the normalised image."""
        found = values[step.target]
        expected = step.exact.run(values)
        error, allowed = error_between(found, expected), ONE_STEP
        if step.rounded is not None:
            other = step.rounded.run(values)
            moved = error_between(other, expected)
            of_mean = _OF_MEAN if self.image in step.inputs else 0
            allowed = plus_rounding(Error(ONE_STEP.rms + of_mean, ONE_STEP.largest + of_mean), moved)
            if (of_rounded := error_between(found, other)).rms < error.rms:
                error, expected = of_rounded, other
        return OwnError(error, allowed, expected)

    def values(self, names: Collection[str], image: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """The right tensors `names`, for the normalised images [N, C, H, W]."""
        return (self._rounded or self._exact).run(names, image)


def export_again(network: PSPNet, card: ModelCard, options: ExportOptions, target: Path) -> None:
    """Write the reference as ONNX, in the form of `options`. ExportError if it does not export."""
    from pspnet_convert.commands.export_onnx.write_onnx import write_onnx

    write_onnx(network, card, target, options, {"name": card.name})


def read_right_graph(path: Path, batch: int, *, fp16: bool) -> RightGraph:
    """The graph that `export_again` wrote, for `batch` images. `agrees` says whether it is right.

    `fp16`: for a model whose weights are in FP16.
    """
    model = read_onnx(path)
    exact = OnnxTaps(model, path, optimised=False)
    rounded = OnnxTaps(_in_fp16(model), path, optimised=False) if fp16 else None
    return RightGraph(exact, rounded, exact.sizes(batch))


def agrees(graph: RightGraph, network: PSPNet, card: ModelCard, images: Sequence[Image], given: NDArray[Any]) -> bool:
    """Whether the right graph, with the reference's own weights, gives the reference's logits on the first image."""
    (known,) = TorchBackend(network, card.input).run(images[:1])
    found = graph._exact.run([graph.logits], given)[graph.logits][0]
    return error_of(found, known.logits).within(Error(3 * ONE_STEP.rms, 3 * ONE_STEP.largest))


def plus_rounding(allowed: Error, moved: Error) -> Error:
    """What is allowed of a step with FP16 constants; `moved`: how far their rounding moves its result."""
    return Error(allowed.rms + _ROUNDED_STEP.rms * moved.rms, allowed.largest + _ROUNDED_STEP.largest * moved.largest)


def error_between(found: NDArray[Any], expected: NDArray[Any]) -> Error:
    """As error_of, of tensors of any type; infinite for another shape."""
    if found.shape != expected.shape:
        return Error(np.inf, np.inf)
    return error_of(found.astype(np.float32), expected.astype(np.float32))


def _in_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with its constants rounded as OpenVINO rounds them."""
    from onnx import ModelProto, TensorProto, numpy_helper

    changed = ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            with np.errstate(over="ignore"):
                rounded = values.astype(np.float16).astype(np.float32)
            if np.isfinite(rounded).all():
                tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    return changed
