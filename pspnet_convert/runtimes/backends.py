"""Run a segmentation model on images: PyTorch, ONNX Runtime, OpenVINO, one protocol.

Each takes the bytes a user has and gives the label maps and the logits behind them (the argmax's input, tapped in
memory; the files stay as they are).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import Input, ModelCard
from pspnet_convert.errors import ArtifactError, ContractError, first_line
from pspnet_convert.runtimes.input_form import (
    DYNAMIC,
    PLAIN,
    Image,
    ImageShape,
    InputForm,
    batch_sizes,
    batches,
    pad_batch,
)
from pspnet_convert.runtimes.io_signature import check_signature, ir_signature, onnx_signature, read_onnx
from pspnet_convert.runtimes.logits_tap import argmax_nodes, ir_logits, ir_tail, onnx_tail
from pspnet_convert.runtimes.openvino_install import require_openvino

_BEGINS_AS_IR = re.compile(r"\s*(<\?xml[^>]*>)?\s*<net\s")


@dataclass(frozen=True)
class Prediction:
    """`labels`: integers [H, W]. `logits`: float32 [classes, H, W], at the image's size."""

    labels: NDArray[np.integer[Any]]
    logits: NDArray[np.float32]


class Backend(Protocol):
    """`run` takes images of the model's size, uint8 or float32 0..255, [H, W, 3], BGR, and gives each one's prediction.

    It takes as many at a time as the model does, one a slot, and gives theirs before it takes the next.
    """

    def run(self, images: Iterable[Image]) -> Iterator[Prediction]: ...


class Converted(Backend, Protocol):
    """A converted model, whose last step can also be run by itself: `argmax` takes logits [slots, classes, H, W],
    float32, at the model's size, and gives labels [slots, H, W]; ArtifactError where it does not take such logits."""

    slots: int

    def argmax(self, logits: NDArray[np.float32]) -> NDArray[np.integer[Any]]: ...


def normalised(images: Sequence[Image], card_input: Input) -> NDArray[np.float32]:
    """The PyTorch and ONNX models' input, float32 [N, 3, H, W], from BGR [H, W, 3], 0..255."""
    stacked = np.stack(images)
    ordered = stacked[..., ::-1] if card_input.color_order == "RGB" else stacked
    values = (ordered - np.array(card_input.mean, np.float32)) / np.array(card_input.scale, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)


class TorchBackend:
    """A PyTorch module that gives logits: the reference, one image at a time, each of any size."""

    def __init__(self, network: Any, card: ModelCard) -> None:
        self._network = network
        self._input = card.input

    def run(self, images: Iterable[Image]) -> Iterator[Prediction]:
        import torch

        for image in images:
            with torch.inference_mode():
                logits = self._network(torch.from_numpy(normalised([image], self._input)))[0]
                prediction = Prediction(logits.argmax(dim=0).numpy(), logits.numpy())
            yield prediction


class OnnxBackend:
    """An ONNX file on ONNX Runtime's CPU provider. ContractError for a file that breaks the card's contract."""

    def __init__(self, path: Path, card: ModelCard, shape: ImageShape) -> None:
        import onnx

        model = read_onnx(path)
        check_signature(path, onnx_signature(model), card, shape)
        tail = argmax_nodes(model, path, card.output.name)
        logits = str(tail[-1].input[0])
        self._tail = onnx_tail(model, tail, logits)
        del model
        # Serialized protobuf messages that stand in a row are merged: a second graph adds its output to the first.
        tap = onnx.ModelProto()
        tap.graph.output.append(onnx.helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, None))
        self._session = _onnx_session(path, path.read_bytes() + tap.SerializeToString())
        self._outputs = [card.output.name, logits]
        self._path = path
        self._input = card.input
        self._batch = shape[0]
        self.slots = max(batch_sizes(shape[0]))

    def run(self, images: Iterable[Image]) -> Iterator[Prediction]:
        for group in batches(images, self._batch):
            given = normalised(pad_batch(group, self._batch), self._input)
            try:
                labels, logits = self._session.run(self._outputs, {self._input.name: given})
            except Exception as error:  # as in _onnx_session
                raise ArtifactError(f"{self._path}: ONNX Runtime cannot run it: {first_line(error)}") from error
            yield from _by_slot(self._path, labels, logits, given)[: len(group)]

    def argmax(self, logits: NDArray[np.float32]) -> NDArray[np.integer[Any]]:
        session = _onnx_session(self._path, self._tail)
        try:
            (labels,) = session.run(None, {session.get_inputs()[0].name: logits})
        except Exception as error:  # as in _onnx_session
            raise ArtifactError(f"{self._path}: its last step takes no logits: {first_line(error)}") from error
        return labels[:, 0]  # type: ignore[no-any-return]


class OpenVinoBackend:
    """An IR on OpenVINO's CPU device, fed plain BGR 0..255; in float32 whatever the processor prefers, unless
    `at_default_precision`. `precision` is what it computes in.

    For images of `shape` (the card's where None is given), in `form`. ContractError for an IR that breaks the card's
    contract, or takes images of another shape or form.
    """

    def __init__(
        self,
        path: Path,
        card: ModelCard,
        shape: ImageShape | None = None,
        form: InputForm = PLAIN,
        *,
        at_default_precision: bool = False,
    ) -> None:
        require_openvino()
        import openvino

        core = openvino.Core()
        model = read_ir(core, path)
        shape = shape or card.input.shape
        check_signature(path, ir_signature(model), card, shape, form)
        if _is_dynamic_inside(model, shape, form):
            raise ContractError(f"{path}: has dynamic shapes inside", "Convert it again for one fixed shape.")
        logits = ir_logits(model, path)
        self._tail = ir_tail(model, path)
        self._path = path
        self._hint = {} if at_default_precision else {"INFERENCE_PRECISION_HINT": "f32"}
        model.add_outputs(logits)
        try:
            self._compiled = core.compile_model(model, "CPU", self._hint)
        except RuntimeError as error:
            raise ArtifactError(f"{path}: OpenVINO does not compile it: {last_line(error)}") from error
        self.precision: str = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self._form, self._batch = form, shape[0]
        self.slots = max(batch_sizes(shape[0]))

    def run(self, images: Iterable[Image]) -> Iterator[Prediction]:
        for group in batches(images, self._batch):
            given = self._form.tensor(pad_batch(group, self._batch))
            try:
                results = self._compiled(given)
            except RuntimeError as error:
                raise ArtifactError(f"{self._path}: OpenVINO cannot run it: {last_line(error)}") from error
            # Copies: the next group's results take the same memory.
            yield from _by_slot(self._path, results[0].copy(), results[1].copy(), given)[: len(group)]

    def argmax(self, logits: NDArray[np.float32]) -> NDArray[np.integer[Any]]:
        import openvino

        try:
            compiled = openvino.Core().compile_model(self._tail, "CPU", self._hint)
            return compiled(logits)[0][:, 0].copy()  # type: ignore[no-any-return]
        except RuntimeError as error:
            raise ArtifactError(f"{self._path}: its last step takes no logits: {last_line(error)}") from error


def _by_slot(
    path: Path, labels: NDArray[Any], logits: NDArray[np.float32], given: NDArray[Any]
) -> Sequence[Prediction]:
    """Of labels [N, 1, H, W] and logits [N, classes, H, W] for N images; ContractError for another number."""
    if not len(labels) == len(logits) == len(given):
        raise ContractError(f"{path}: gives {len(labels)} label maps and {len(logits)} logits for {len(given)} images")
    return [Prediction(of_image[0], its_logits) for of_image, its_logits in zip(labels, logits)]


def _is_dynamic_inside(model: Any, shape: ImageShape, form: InputForm) -> bool:
    """Whether anything but the batch, where `shape` leaves that open, has no fixed size."""
    if shape[0] == DYNAMIC:
        model = model.clone()
        try:
            model.reshape(list(form.ordered((1, *shape[1:]))))
        except RuntimeError:
            return True
    return bool(model.is_dynamic())


def read_ir(core: Any, path: Path) -> Any:
    """The openvino.Model of an .xml with its .bin; ArtifactError if there is none or it is broken."""
    for part in (path, path.with_suffix(".bin")):
        if not part.is_file():
            raise ArtifactError(f"{part}: there is no such IR file", "Run to-ir first (quantize for INT8).")
    try:
        # What is no IR, OpenVINO would try to read as ONNX, TensorFlow and more, with weights from other files.
        if not _BEGINS_AS_IR.match(path.read_text(encoding="utf-8")):
            raise ArtifactError(f"{path}: is not an IR that OpenVINO reads: has no <net> first", "Run to-ir again.")
        model = core.read_model(str(path))
    except (RuntimeError, ValueError) as error:
        raise ArtifactError(
            f"{path}: is not an IR that OpenVINO reads: {last_line(error)}", "Run to-ir again."
        ) from error
    bits = 8 * max(1, path.with_suffix(".bin").stat().st_size)
    for node in model.get_ops():
        # OpenVINO compares the bytes that a shape takes with the .bin's, but in 64 bits, where a huge one is small.
        if node.get_type_name() == "Constant" and math.prod(node.get_output_shape(0)) > bits:
            raise ArtifactError(f"{path}: a constant of {list(node.get_output_shape(0))} is not in its .bin")
    return model


def last_line(error: Exception) -> str:
    """OpenVINO's messages begin with its own source files and end with the reason."""
    return ([line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"])[-1]


def _onnx_session(path: Path, model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # which keeps the largest run's memory, and there are few runs
    try:
        # Its fallback is to try the same provider again, and to print so to stdout.
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    # ONNX Runtime's exceptions share no base but Exception.
    except Exception as error:
        raise ArtifactError(f"{path}: ONNX Runtime refuses it: {first_line(error)}") from error
