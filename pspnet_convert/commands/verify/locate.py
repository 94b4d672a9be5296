"""Name the first layer of a converted model whose output leaves the reference's, and save it as a small model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.commands.verify.image_step import name_of_image_step
from pspnet_convert.commands.verify.layer_file import save_layer, small_model
from pspnet_convert.commands.verify.layer_search import GROUP, LayerSearch, WrongStep
from pspnet_convert.commands.verify.right_graph import agrees, error_between, right_graph
from pspnet_convert.runtimes.backends import normalised
from pspnet_convert.runtimes.input_form import Image, InputForm, pad_batch
from pspnet_convert.runtimes.layer_taps import IrTaps, LayerTaps, OnnxTaps
from pspnet_convert.runtimes.io_signature import read_onnx
from pspnet_convert.runtimes.logit_error import NO_ERROR, Error, Precision, worst

if TYPE_CHECKING:
    from pspnet_convert.pytorch.network import PSPNet

log = logging.getLogger(__name__)
_SAME = 0.5  # of the error that was seen in the whole model: alone, a layer has it all, or none of it


@dataclass(frozen=True)
class Located:
    """The first layer that is wrong.

    `layer`: the path of its module; `tensor` and `op`: what leaves the reference's, and the operation that makes it.
    `error_before`: of the layer's inputs `input_names` against the reference's; `error_after`: of its output.
    `repeats`: whether the layer alone shows the error, so that `folder` has it. `words`: all of it, for people.
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
class Model:
    """The converted model at `path`, which takes images in `form`; `precision` is FP16 for weights stored so.

    `exported`: how its ONNX was exported.
    """

    path: Path
    precision: Precision
    form: InputForm
    exported: ExportOptions


def locate(
    network: PSPNet,
    card: ModelCard,
    images: Sequence[Image],
    model: Model,
    folder: Path,
    *,
    save_to: Path | None = None,
    group: int = GROUP,
) -> Located | None:
    """The first layer of `model` that is wrong on `images`, of which it takes the first ones; None if none is found.

    `folder` has temporary files. The layer is saved as a small model in `save_to`. `group`: the bytes of tensors that
    are read at a time. ArtifactError or ContractError for a file that does not run; WorkspaceError if a folder cannot
    be written.
    """
    batch = max(model.exported.batch, 1)
    slots = pad_batch(list(images[:batch]), batch)
    image = normalised(slots, card.input)
    is_ir = model.path.suffix == ".xml"
    found: LayerTaps = IrTaps(model.path) if is_ir else OnnxTaps(read_onnx(model.path), model.path, card.output.name)
    given = model.form.tensor(slots) if is_ir else image
    right = right_graph(network, card, model.exported, slots, folder, fp16=model.precision == "FP16")
    if not agrees(right, network, card, slots, image):
        log.warning("the export of the network is wrong itself: its logits are not the network's")
        return None
    search = LayerSearch(right, found, given, image, group)
    wrong = search.first_wrong() or search.wrong_logits()
    if wrong is None:
        return None
    return _described(search, search.again(wrong) or wrong, save_to)


def _described(search: LayerSearch, wrong: WrongStep, save_to: Path | None) -> Located:
    right, found, step = search.right, search.found, wrong.step
    layer, op = right.module_of(step.target), right.layers[step.target].op
    if isinstance(found, IrTaps) and list(step.inputs) == [right.image]:
        layer = name_of_image_step(found, wrong, layer, search.given)
    known = [name for name in right.layers if name in found.layers and name not in step.tensors]
    small = small_model(found, found.part(known, wrong.tensor), search.given, wrong.own.expected)
    inputs = [name for name in step.inputs if name != right.image]
    reference = right.values([*inputs, step.target], search.image)
    before = worst(NO_ERROR, *(error_between(wrong.values[name], reference[name]) for name in inputs))
    after = error_between(wrong.values[wrong.tensor], reference[step.target])
    repeats = small.error.rms >= _SAME * wrong.own.error.rms
    words = f"{layer} ({op}): {_in_words(before, inputs)}; its output is off by {_figure(after)}. {_alone(wrong, repeats)}"
    folder = save_to and save_layer(small, save_to)
    return Located(layer, op, step.target, before, after, tuple(small.part.inputs), repeats, words, folder)


def _in_words(before: Error, inputs: Sequence[str]) -> str:
    return f"its input is off by {_figure(before)}" if inputs else "its input is the image"


def _figure(error: Error) -> str:
    return f"{error.rms:.1e} rms, relative" if np.isfinite(error.rms) else "another shape, or not a number"


def _alone(wrong: WrongStep, repeats: bool) -> str:
    if wrong.vanishes:
        return "The difference vanishes when tensors inside it are read: a fusion of the runtime"
    if repeats:
        return "Alone, it gives the same difference"
    return "The difference vanishes when the layer runs alone: a fusion of the runtime"
