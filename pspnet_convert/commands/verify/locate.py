"""Name the first layer of a converted model whose output leaves the reference's, and save it as a small model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import Input, ModelCard
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.commands.verify.convolution_search import Runs, WrongConvolution, first_wrong_convolution
from pspnet_convert.commands.verify.image_step import PREPROCESSING, name_of_image_step
from pspnet_convert.commands.verify.layer_file import save_layer, small_model
from pspnet_convert.commands.verify.layer_search import GROUP, LayerSearch, WrongStep
from pspnet_convert.commands.verify.right_graph import agrees, error_between, export_again, read_right_graph
from pspnet_convert.errors import ArtifactError
from pspnet_convert.files import temporary_folder
from pspnet_convert.image_shape import ImageShape
from pspnet_convert.runtimes.backends import normalised
from pspnet_convert.runtimes.input_form import Image, InputForm, pad_batch
from pspnet_convert.runtimes.io_signature import read_onnx
from pspnet_convert.runtimes.ir_taps import IrTaps
from pspnet_convert.runtimes.layer_taps import LayerTaps
from pspnet_convert.runtimes.logit_error import NO_ERROR, Error, Precision, worst
from pspnet_convert.runtimes.onnx_taps import OnnxTaps

if TYPE_CHECKING:
    from pspnet_convert.pytorch.network import PSPNet

log = logging.getLogger(__name__)
_SAME = 0.5  # of the error that it adds in the whole model: alone, a layer has all of it, or none


@dataclass(frozen=True)
class LocatedLayer:
    """The first layer that is wrong.

    `layer`: the path of its module in the network, `logits` after the last module, `preprocessing` before the first;
    with an `or` between two of them where the model's values do not say which. `op`: the wrong operation, as ONNX or
    OpenVINO name it. `tensor`: its result in the model. `error_before`: of the layer's inputs against the reference's
    (`input_names`: in the model); `error_after`: of its result. `repeats`: whether the layer shows the error alone, as
    the small model in `folder`. `words`: all of it, for people.
    """

    layer: str
    op: str
    tensor: str
    error_before: Error
    error_after: Error
    input_names: tuple[str, ...]
    repeats: bool
    words: str
    folder: Path | None = None


@dataclass(frozen=True)
class InspectedModel:
    """The converted model at `path`, for images of `shape`, which an IR takes in `form`. `precision` is FP16 for
    weights that are stored so. `exported`: how its ONNX was exported, None for a file from elsewhere; `right`: what
    export_again wrote with these options, None to have it written."""

    path: Path
    precision: Precision
    shape: ImageShape
    form: InputForm
    exported: ExportOptions | None = None
    right: Path | None = None


@dataclass(frozen=True)
class _Opened:
    """An inspected model with its inner tensors, the input that it is run on, and the same images normalised."""

    of: InspectedModel
    found: LayerTaps
    given: NDArray[Any]
    image: NDArray[np.float32]
    slots: Sequence[Image]


def locate(
    network: PSPNet,
    card: ModelCard,
    images: Sequence[Image],
    model: InspectedModel,
    folder: Path,
    *,
    save_to: Path | None = None,
    group: int = GROUP,
) -> LocatedLayer | None:
    """The first layer of `model` that is wrong; None if none is, or if that is not sure.

    `images` [H, W, C]: the model's batch is filled with the first ones. `folder` has temporary files. The layer is
    saved as a small model in `save_to`, which is replaced. `group`: the bytes of tensors that are read at a time.
    ExportError if the network does not export again; WorkspaceError if a folder cannot be written.
    """
    batch = max(model.shape[0], 1)
    slots = pad_batch(list(images[:batch]), batch)
    image = normalised(slots, card.input)
    try:
        if model.path.suffix == ".xml":
            opened = _Opened(model, IrTaps(model.path), model.form.tensor(slots), image, slots)
        else:
            opened = _Opened(model, OnnxTaps(read_onnx(model.path), model.path), image, image, slots)
        if model.exported is not None:
            return _by_name(network, card, opened, model.exported, folder, save_to, group)
        return _by_convolution(network, opened, save_to, group, fold_pyramid=None)
    except ArtifactError as error:
        log.info("no layer is named: %s", error.what)
        return None


def _by_name(
    network: PSPNet,
    card: ModelCard,
    opened: _Opened,
    exported: ExportOptions,
    folder: Path,
    save_to: Path | None,
    group: int,
) -> LocatedLayer | None:
    with temporary_folder(folder) as place:
        path = opened.of.right or place / "right.onnx"
        if opened.of.right is None:
            export_again(network, card, exported, path)
        right = read_right_graph(path, len(opened.slots), fp16=opened.of.precision == "FP16")
    if not agrees(right, network, card, opened.slots, opened.image):
        # The exporter is wrong, or ONNX Runtime. PyTorch's convolutions have the same names.
        return _by_convolution(network, opened, save_to, group, fold_pyramid=exported.fold_pyramid)
    search = LayerSearch(right, opened.found, opened.given, opened.image, group)
    wrong = search.first_wrong() or search.wrong_logits()
    if wrong is None:
        return None
    return _described_step(search, search.again(wrong) or wrong, card.input, save_to)


def _described_step(search: LayerSearch, wrong: WrongStep, card_input: Input, save_to: Path | None) -> LocatedLayer:
    right, found, step = search.right, search.found, wrong.step
    layer, op = right.module_of(step.target), right.layers[step.target].op
    if isinstance(found, IrTaps) and list(step.inputs) == [right.image]:
        layer = name_of_image_step(found, wrong, layer, search.given, card_input)
    known = [name for name in right.layers if name in found.layers and name not in step.tensors]
    inputs = [name for name in step.inputs if name != right.image]
    reference = right.values([*inputs, step.target], search.image)
    before = worst(NO_ERROR, *(error_between(wrong.values[name], reference[name]) for name in inputs))
    after = error_between(wrong.values[wrong.tensor], reference[step.target])
    place = layer if layer == PREPROCESSING else f"{layer} ({op})"
    found_step = _Found(layer, op, place, wrong.tensor, before, after, wrong.own.error, wrong.own.expected)
    return _located(found, search.given, found_step, known, save_to, wrong.vanishes)


def _by_convolution(
    network: PSPNet, opened: _Opened, save_to: Path | None, group: int, *, fold_pyramid: bool | None
) -> LocatedLayer | None:
    """`fold_pyramid`: of the export; for a file from elsewhere None: its pyramid may be either."""
    from pspnet_convert.pytorch.convolution_runs import run_convolutions
    from pspnet_convert.pytorch.folded import folded_copy, round_to_fp16
    from pspnet_convert.pytorch.rewritten import rewritten_copy

    def references() -> Iterator[PSPNet]:
        if fold_pyramid is None:
            yield folded_copy(network, opened.image.shape)
        yield rewritten_copy(network, opened.image.shape[1:], fold_pyramid=fold_pyramid is not False)

    for reference in references():
        exact, rounded = run_convolutions(reference, opened.image), None
        if opened.of.precision == "FP16":
            round_to_fp16(reference)
            rounded = run_convolutions(reference, opened.image)
        runs = Runs(exact, rounded)
        wrong = first_wrong_convolution(opened.found, opened.given, runs, group)
        if wrong is not None:
            return _described_convolution(reference, opened, runs, wrong, save_to)
    return None


def _described_convolution(
    reference: PSPNet, opened: _Opened, runs: Runs, wrong: WrongConvolution, save_to: Path | None
) -> LocatedLayer:
    from pspnet_convert.pytorch.convolution_runs import tensors_of

    found = opened.found
    given, result = tensors_of(reference, opened.image, wrong.place)
    path = runs.exact[wrong.place].path
    numbered = f"convolution {wrong.place + 1} of the network, {path}"
    if not path:
        layer, place = "logits", f"the steps after {runs.exact[-2].path}"
    elif not wrong.known and isinstance(found, IrTaps):
        layer, place = f"{PREPROCESSING} or {path}", f"the preprocessing or {numbered}"
    elif wrong.is_before:
        layer, place = f"before {path}", f"the steps before {numbered}"
    else:
        layer, place = path, numbered
    op = "Conv" if path and not wrong.is_before else found.layers[wrong.tensor].op
    expected = given if wrong.is_before else result
    found_layer = _Found(layer, op, place, wrong.tensor, wrong.before, wrong.after, wrong.after, expected)
    return _located(found, opened.given, found_layer, wrong.known, save_to)


@dataclass(frozen=True)
class _Found:
    """A wrong layer before its small model is made; `place`: the layer for people, `own`: the error that it adds,
    `expected`: its right result."""

    layer: str
    op: str
    place: str
    tensor: str
    before: Error
    after: Error
    own: Error
    expected: NDArray[Any]


def _located(
    found: LayerTaps,
    given: NDArray[Any],
    wrong: _Found,
    known: Sequence[str],
    save_to: Path | None,
    vanishes: bool = False,
) -> LocatedLayer:
    """`known`: the model's tensors that are right, from which the small model begins."""
    part = found.part([name for name in known if name != wrong.tensor], wrong.tensor)
    small = small_model(found, part, given, wrong.expected)
    repeats = not vanishes and not small.error.rms < _SAME * wrong.own.rms
    words = f"{wrong.place}: {_before(part.inputs, found.image, wrong.before)}, {_after(wrong.after)}; "
    words += _alone(vanishes, repeats)
    folder = save_to and save_layer(small, save_to)
    inputs = tuple(part.inputs)
    return LocatedLayer(wrong.layer, wrong.op, wrong.tensor, wrong.before, wrong.after, inputs, repeats, words, folder)


def _before(inputs: Sequence[str], image: str, error: Error) -> str:
    if not inputs:
        return "it reads neither the image nor another layer"
    return "its input is the image" if list(inputs) == [image] else f"its input is off by {error.rms:.1e} rms"


def _after(error: Error) -> str:
    if np.isfinite(error.rms):
        return f"its output is off by {error.rms:.1e} rms"
    return "its output has another shape, or is not finite"


def _alone(vanishes: bool, repeats: bool) -> str:
    if vanishes:
        return "the difference vanishes when tensors inside it are read: a fusion of the runtime"
    if repeats:
        return "alone, it gives the same difference"
    return "the difference vanishes when the layer runs alone: a fusion of the runtime"
