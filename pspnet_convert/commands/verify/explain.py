"""Say why a converted model is wrong: its cause in words, or the first layer that is wrong."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.commands.verify.answers import Answers
from pspnet_convert.commands.verify.candidates import Candidate
from pspnet_convert.commands.verify.causes.evidence import Cause, Evidence
from pspnet_convert.commands.verify.conversion import Conversion
from pspnet_convert.commands.verify.inputs import VerificationInput
from pspnet_convert.commands.verify.locate import InspectedModel, LocatedLayer, locate
from pspnet_convert.commands.verify.reference import Expected
from pspnet_convert.commands.verify.result import Comparison
from pspnet_convert.errors import first_line
from pspnet_convert.manifest_fields import CauseOfMismatch, Explanation, RelativeError, WrongLayer
from pspnet_convert.runtimes.backends import Prediction, TorchBackend, normalised, read_ir
from pspnet_convert.runtimes.first_layer import run_ir_first_layer, run_onnx_first_layer
from pspnet_convert.runtimes.input_form import Image, batch_sizes, pad_batch
from pspnet_convert.runtimes.io_signature import read_onnx
from pspnet_convert.runtimes.logit_error import Error, error_of

if TYPE_CHECKING:
    from pspnet_convert.pytorch.network import PSPNet

log = logging.getLogger(__name__)
_OWN_WORDS = {"contract", "outputs", "processor"}  # these checks name the cause themselves


@dataclass(frozen=True)
class Reference:
    """What models were compared with: the network and its answers (`expected`) on `inputs`.

    `drawn`: the logits [classes, H, W] that the last step of each was run on. `conversion` and `exported`: how the
    workspace's IRs and ONNX were made; None for files from elsewhere, and where it is not known.
    """

    network: PSPNet
    card: ModelCard
    inputs: Sequence[VerificationInput]
    expected: Sequence[Expected]
    drawn: NDArray[np.float32]
    conversion: Conversion | None = None
    exported: ExportOptions | None = None

    @property
    def images(self) -> list[Image]:
        return [entry.image for entry in self.inputs]


def needs_explanation(comparison: Comparison) -> bool:
    """Whether a model failed, and none of the checks that failed says why."""
    return not comparison.report_only and bool(comparison.faults) and not _OWN_WORDS & set(comparison.faults)


def explain(
    reference: Reference,
    candidate: Candidate,
    answers: Answers,
    comparison: Comparison,
    folder: Path,
    save_to: Path | None = None,
    *,
    always_locate: bool = False,
) -> Explanation:
    """Why the candidate is wrong. The model is opened in this process: it has run in another within limits.

    A layer is looked for where no cause is found, or `always_locate`. It is saved as a small model in `save_to`;
    `folder` has temporary files.
    """
    from pspnet_convert.commands.verify.causes.find import find_cause  # imports torch

    log.info("%s: looking for the cause", comparison.backend)
    cause = layer = None
    # The network's own code may raise any error on a changed input. The verdict must be reported all the same.
    try:
        cause = _stored_otherwise(candidate, answers)
        cause = cause or find_cause(evidence_of(reference, candidate, answers, comparison))
        if cause is None or always_locate:
            layer = _locate(reference, candidate, comparison, folder, save_to)
    except Exception as error:
        log.warning("%s: the search for the cause ended: %s", comparison.backend, first_line(error))
        log.debug("", exc_info=True)
    return _explanation(cause, layer)


def _stored_otherwise(candidate: Candidate, answers: Answers) -> Cause | None:
    """The cause where the file stores its weights in another number type than it should."""
    if not candidate.is_ir or candidate.claims not in ("f32", "FP16") or answers.weights == candidate.claims:
        return None
    names = {"f32": "FP32", "FP16": "FP16"}
    stored, claimed = names[answers.weights], names[candidate.claims]
    return Cause("numbers", f"the weights are stored in {stored}", f"the file should have {claimed}")


def _explanation(cause: Cause | None, layer: LocatedLayer | None) -> Explanation:
    if cause is not None:
        words = str(cause)
    elif layer is not None:
        words = f"No known cause explains it. The first wrong layer is {layer.words}"
    else:
        words = "No known cause explains it, and no layer is known to be wrong by itself"
    return Explanation(
        words=words,
        cause=None if cause is None else CauseOfMismatch.model_validate(asdict(cause)),
        layer=None if layer is None else _wrong_layer(layer),
    )


def _wrong_layer(layer: LocatedLayer) -> WrongLayer:
    return WrongLayer(
        layer=layer.layer,
        op=layer.op,
        tensor=layer.tensor,
        error_before=RelativeError.model_validate(layer.error_before.as_dict()),
        error_after=RelativeError.model_validate(layer.error_after.as_dict()),
        repeats=layer.repeats,
        words=layer.words,
        folder=None if layer.folder is None else layer.folder.name,
    )


def _locate(
    reference: Reference, candidate: Candidate, comparison: Comparison, folder: Path, save_to: Path | None
) -> LocatedLayer | None:
    model, weights = candidate.model, "FP16" if comparison.precision == "FP16" else "f32"
    inspected = InspectedModel(model.path, weights, model.shape, model.form, reference.exported)  # type: ignore[arg-type]
    return locate(reference.network, reference.card, reference.images, inspected, folder, save_to=save_to)


def evidence_of(reference: Reference, candidate: Candidate, answers: Answers, comparison: Comparison) -> Evidence:
    """What is known of the candidate, on the first input where it is wrong, or on the first of all."""
    numbered = enumerate(answers.predictions)
    chosen = next((number for number, one in numbered if _is_wrong(one.loaded(), reference, number, comparison)), 0)
    batch = _batch_of(chosen, candidate, len(reference.inputs))
    of_batch = [reference.images[number] for number in batch]
    network, card, allowed = reference.network, reference.card, comparison.allowed
    predictions = [reference.expected[number].prediction for number in batch]
    expected = [Prediction(one.labels, one.logits) for one in predictions]
    if comparison.precision == "FP16":
        network, card = _in_fp16(reference)
        expected = list(TorchBackend(network, card.input).run(of_batch))
        held_to = reference.expected[chosen].in_fp16
        if held_to is not None:
            own = error_of(held_to.logits, expected[chosen - batch.start].logits)
            allowed = Error(allowed.rms + own.rms, allowed.largest + own.largest)
    layers = _first_layers(candidate, card, pad_batch(of_batch, candidate.model.shape[0]))
    given = answers.drawn
    drawn = (reference.drawn, given[0]) if isinstance(given, np.ndarray) and len(given) else None
    return Evidence(
        network,
        card,
        reference.images[chosen],
        expected[chosen - batch.start],
        answers.predictions[chosen].loaded(),
        drawn,
        None if layers is None else layers[chosen - batch.start],
        candidate.is_ir,
        comparison.precision,
        allowed,
        {reference.inputs[number].name: expected[number - batch.start].logits for number in batch if number != chosen},
    )


def _is_wrong(found: Prediction, reference: Reference, number: int, comparison: Comparison) -> bool:
    known = reference.expected[number]
    held_to = known.in_fp16 if comparison.precision == "FP16" and known.in_fp16 is not None else known.prediction
    if found.logits.shape != held_to.logits.shape or found.labels.shape != held_to.labels.shape:
        return True
    return not error_of(found.logits, held_to.logits).within(comparison.allowed)


def _batch_of(chosen: int, candidate: Candidate, inputs: int) -> range:
    """The numbers of the inputs that ran in one batch with `chosen`."""
    sizes, start = batch_sizes(candidate.model.shape[0]), 0
    for turn in range(inputs):
        end = start + sizes[turn % len(sizes)]
        if chosen < end:
            return range(start, min(end, inputs))
        start = end
    return range(chosen, chosen + 1)


def _in_fp16(reference: Reference) -> tuple[PSPNet, ModelCard]:
    """The network and the card with weights, mean and scale as an FP16 IR has them, nearly: front-ends differ."""
    from pspnet_convert.pytorch.folded import folded_copy, round_to_fp16
    from pspnet_convert.pytorch.rewritten import rewritten_copy

    network, card = reference.network, reference.card
    image = (card.input.channels, *reference.images[0].shape[:2])
    if reference.conversion is not None:
        rounded = rewritten_copy(network, image, fold_pyramid=reference.conversion.fold_pyramid)
    else:
        rounded = folded_copy(network, (1, *image))
    round_to_fp16(rounded)
    if card.input.needs_float32:
        return rounded, card
    mean = tuple(float(np.float16(value)) for value in card.input.mean)
    return rounded, card.model_copy(update={"input": card.input.model_copy(update={"mean": mean})})


def _first_layers(candidate: Candidate, card: ModelCard, images: Sequence[Image]) -> NDArray[Any] | None:
    """The output of the model's first convolution for one batch."""
    if not candidate.is_ir:
        path = candidate.model.path
        return run_onnx_first_layer(read_onnx(path), path, normalised(images, card.input))
    import openvino

    model = read_ir(openvino.Core(), candidate.model.path)
    return run_ir_first_layer(model, candidate.model.form.tensor(images))
