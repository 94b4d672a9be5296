"""Run a segmentation model on an image: PyTorch, ONNX Runtime, OpenVINO, one protocol.

Each takes the bytes a user has and gives the label map and the logits behind it (the argmax's input, tapped in
memory; the files stay as they are).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Protocol, Union

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.card import Input, ModelCard
from pspnet_convert.contract import ImageShape, check_ports, image_shape, ir_ports, onnx_ports, read_onnx
from pspnet_convert.errors import ArtifactError, ContractError, first_line
from pspnet_convert.logits_tap import argmax_nodes, ir_logits, ir_tail, onnx_tail
from pspnet_convert.runtime import require_openvino

_BEGINS_AS_IR = re.compile(r"\s*(<\?xml[^>]*>)?\s*<net\s")
Image = Union[NDArray[np.uint8], NDArray[np.float32]]


@dataclass(frozen=True)
class Prediction:
    """`labels`: integers [H, W]. `logits`: float32 [classes, H, W], at the image's size."""

    labels: NDArray[np.integer[Any]]
    logits: NDArray[np.float32]


class Backend(Protocol):
    """`run` takes an image of the model's size, uint8 or float32 0..255, [H, W, 3], BGR."""

    def run(self, image: Image) -> Prediction: ...


class Converted(Backend, Protocol):
    """A converted model, whose last step can also be run by itself: `argmax` takes logits [classes, H, W], float32,
    at the model's size, and gives labels [H, W]; ArtifactError where it does not take such logits."""

    def argmax(self, logits: NDArray[np.float32]) -> NDArray[np.integer[Any]]: ...


def normalised(image: Image, card_input: Input) -> NDArray[np.float32]:
    """The PyTorch and ONNX models' input, float32 [1, 3, H, W], from BGR [H, W, 3], 0..255."""
    ordered = image[:, :, ::-1] if card_input.color_order == "RGB" else image
    values = (ordered - np.array(card_input.mean, np.float32)) / np.array(card_input.scale, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32)


def as_it_is(image: Image) -> NDArray[np.float32]:
    """The IR's input, float32 [1, 3, H, W], 0..255, from uint8 BGR [H, W, 3]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32)


class TorchBackend:
    """A PyTorch module that gives logits: the reference."""

    def __init__(self, network: Any, card: ModelCard) -> None:
        self._network = network
        self._input = card.input

    def run(self, image: Image) -> Prediction:
        import torch

        with torch.inference_mode():
            logits = self._network(torch.from_numpy(normalised(image, self._input)))[0]
            return Prediction(logits.argmax(dim=0).numpy(), logits.numpy())


class OnnxBackend:
    """An ONNX file on ONNX Runtime's CPU provider. ContractError for a file that breaks the card's contract."""

    def __init__(self, path: Path, card: ModelCard, shape: ImageShape) -> None:
        import onnx

        model = read_onnx(path)
        check_ports(path, onnx_ports(model), card, shape)
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

    def run(self, image: Image) -> Prediction:
        given = {self._input.name: normalised(image, self._input)}
        try:
            labels, logits = self._session.run(self._outputs, given)
        except Exception as error:  # as in _onnx_session
            raise ArtifactError(f"{self._path}: ONNX Runtime cannot run it: {first_line(error)}") from error
        return Prediction(labels[0, 0], logits[0])

    def argmax(self, logits: NDArray[np.float32]) -> NDArray[np.integer[Any]]:
        session = _onnx_session(self._path, self._tail)
        try:
            (labels,) = session.run(None, {session.get_inputs()[0].name: logits[None]})
        except Exception as error:  # as in _onnx_session
            raise ArtifactError(f"{self._path}: its last step takes no logits: {first_line(error)}") from error
        return labels[0, 0]  # type: ignore[no-any-return]


class OpenVinoBackend:
    """An IR on OpenVINO's CPU device, fed plain BGR 0..255; in float32 whatever the processor prefers, unless
    `at_default_precision`. `precision` is what it computes in.

    At `shape`, or where None is given at its own. ContractError for an IR that breaks the card's contract.
    """

    def __init__(
        self, path: Path, card: ModelCard, shape: Optional[ImageShape] = None, *, at_default_precision: bool = False
    ) -> None:
        require_openvino()
        import openvino

        core = openvino.Core()
        model = read_ir(core, path)
        ports = ir_ports(model)
        self.shape = shape or image_shape(ports, card)
        check_ports(path, ports, card, self.shape)
        if model.is_dynamic():
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

    def run(self, image: Image) -> Prediction:
        try:
            results = self._compiled(as_it_is(image))
        except RuntimeError as error:
            raise ArtifactError(f"{self._path}: OpenVINO cannot run it: {last_line(error)}") from error
        return Prediction(results[0][0, 0].copy(), results[1][0].copy())

    def argmax(self, logits: NDArray[np.float32]) -> NDArray[np.integer[Any]]:
        import openvino

        try:
            compiled = openvino.Core().compile_model(self._tail, "CPU", self._hint)
            return compiled(logits[None])[0][0, 0].copy()  # type: ignore[no-any-return]
        except RuntimeError as error:
            raise ArtifactError(f"{self._path}: its last step takes no logits: {last_line(error)}") from error


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
