"""What find_cause is given on a faulty file: run the file and the reference, and take the first wrong answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import openvino
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify.candidates import candidates
from pspnet_convert.commands.verify.causes.evidence import Evidence
from pspnet_convert.commands.verify.inputs import VerificationInput, drawn_logits
from pspnet_convert.image_shape import ImageShape
from pspnet_convert.pytorch.folded import round_to_fp16
from pspnet_convert.pytorch.network import PSPNet
from pspnet_convert.pytorch.rewritten import rewritten_copy
from pspnet_convert.runtimes.backends import Prediction, TorchBackend, normalised
from pspnet_convert.runtimes.first_layer import run_ir_first_layer, run_onnx_first_layer
from pspnet_convert.runtimes.input_form import PLAIN, InputForm, pad_batch
from pspnet_convert.runtimes.logit_error import Error, error_of
from pspnet_convert.runtimes.model_file import ModelFile

_Images = Sequence[NDArray[np.generic]]


@dataclass(frozen=True)
class Model:
    """The network that `file` should be; it takes images of `shape`, as an IR in `form`."""

    network: PSPNet
    card: ModelCard
    file: ModelFile
    shape: ImageShape
    form: InputForm = PLAIN

    @property
    def is_ir(self) -> bool:
        return self.file.path.suffix == ".xml"


def evidence_of(model: Model, inputs: Sequence[VerificationInput], allowed: Error) -> Evidence:
    """On the first input whose answer is wrong, or on the first of all."""
    (candidate,) = candidates([model.file], model.card, model.shape, model.form, at_default_precision=False)
    network, card = model.network, model.card
    if candidate.precision == "FP16":
        network, card = rounded(network, card)
    images = [entry.image for entry in inputs]
    expected = list(TorchBackend(network, card.input).run(images))
    backend = candidate.open()
    found = list(backend.run(images))
    drawn = drawn_logits(len(card.classes), *images[0].shape[:2])
    labels = backend.argmax(np.stack([drawn] * backend.slots))[0]
    wrong = [number for number in range(len(images)) if _is_wrong(found[number], expected[number], allowed)]
    chosen = wrong[0] if wrong else 0
    slots = backend.slots
    batch = range(chosen // slots * slots, min(chosen // slots * slots + slots, len(images)))
    layers = _first_layers(model, pad_batch([images[number] for number in batch], slots))
    return Evidence(
        network,
        card,
        images[chosen],
        expected[chosen],
        found[chosen],
        (drawn, labels),
        None if layers is None else layers[chosen - batch.start],
        model.is_ir,
        candidate.precision,
        allowed,
        {inputs[number].name: expected[number].logits for number in batch if number != chosen},
    )


def rounded(network: PSPNet, card: ModelCard) -> tuple[PSPNet, ModelCard]:
    """The network with the weights, and the card with the mean, that an FP16 IR has."""
    changed = rewritten_copy(network, card.input.shape[1:], fold_pyramid=True)
    round_to_fp16(changed)
    mean = tuple(float(np.float16(value)) for value in card.input.mean)
    return changed, card.model_copy(update={"input": card.input.model_copy(update={"mean": mean})})


def _is_wrong(found: Prediction, expected: Prediction, allowed: Error) -> bool:
    if found.logits.shape != expected.logits.shape:
        return True
    return not error_of(found.logits, expected.logits).within(allowed)


def _first_layers(model: Model, images: _Images) -> NDArray[np.float32] | None:
    if model.is_ir:
        return run_ir_first_layer(openvino.Core().read_model(str(model.file.path)), model.form.tensor(images))
    return run_onnx_first_layer(onnx.load(str(model.file.path)), normalised(images, model.card.input))
