"""Run a segmentation model on an image: PyTorch, ONNX Runtime, OpenVINO, one protocol.

Each takes the bytes a user has and gives the label map and the logits behind it (the argmax's input, tapped in
memory; the files stay as they are).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Protocol

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.card import Input, ModelCard
from pspnet_convert.contract import ImageShape, check_ports, image_shape, ir_ports, onnx_ports, read_onnx
from pspnet_convert.errors import ArtifactError

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """`labels`: integers [H, W]. `logits`: float32 [classes, H, W], at the image's size."""

    labels: NDArray[np.integer[Any]]
    logits: NDArray[np.float32]


class Backend(Protocol):
    """`run` takes an image of the model's size, uint8 [H, W, 3], BGR."""

    def run(self, image: Image) -> Prediction: ...


def normalised(image: Image, card_input: Input) -> NDArray[np.float32]:
    """The PyTorch and ONNX models' input, float32 [1, 3, H, W], from uint8 BGR [H, W, 3]."""
    ordered = image[:, :, ::-1] if card_input.color_order == "RGB" else image
    values = (ordered - np.array(card_input.mean, np.float32)) / np.array(card_input.scale, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32)


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
    """An ONNX file on ONNX Runtime's CPU provider. ArtifactError for a file that breaks the card's contract."""

    def __init__(self, path: Path, card: ModelCard, shape: ImageShape) -> None:
        import onnx
        import onnxruntime

        model = read_onnx(path)
        check_ports(path, onnx_ports(model), card, shape)
        logits = _argmax_input(model, path, card.output.name)
        del model
        # Serialized protobuf messages that stand in a row are merged: a second graph adds its output to the first.
        tap = onnx.ModelProto()
        tap.graph.output.append(onnx.helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # which keeps the largest run's memory, and there are few runs
        try:
            self._session = onnxruntime.InferenceSession(
                path.read_bytes() + tap.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        # ONNX Runtime's exceptions share no base but Exception.
        except Exception as error:
            raise ArtifactError(f"{path}: ONNX Runtime refuses it: {str(error).splitlines()[0]}") from error
        self._outputs = [card.output.name, logits]
        self._input = card.input

    def run(self, image: Image) -> Prediction:
        labels, logits = self._session.run(self._outputs, {self._input.name: normalised(image, self._input)})
        return Prediction(labels[0, 0], logits[0])


class OpenVinoBackend:
    """An IR on OpenVINO's CPU device, in float32 whatever the processor prefers; fed plain BGR 0..255.

    At `shape`, or where None is given at its own. ArtifactError for an IR that breaks the card's contract.
    """

    def __init__(self, path: Path, card: ModelCard, shape: Optional[ImageShape] = None) -> None:
        import openvino

        core = openvino.Core()
        model = read_ir(core, path)
        ports = ir_ports(model)
        self.shape = shape or image_shape(ports, card)
        check_ports(path, ports, card, self.shape)
        model.add_outputs(_topk_input(model, path))
        self._compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(self, image: Image) -> Prediction:
        # float32, as the contract has it; the values stay 0..255.
        batch = np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32)
        results = self._compiled(batch)
        return Prediction(results[0][0, 0].copy(), results[1][0].copy())


def read_ir(core: Any, path: Path) -> Any:
    """The openvino.Model of an .xml with its .bin; ArtifactError if there is none or it is broken."""
    for part in (path, path.with_suffix(".bin")):
        if not part.is_file():
            raise ArtifactError(f"{part}: there is no such IR file", "Run to-ir first.")
    try:
        return core.read_model(str(path))
    except RuntimeError as error:
        words = [line for line in str(error).splitlines() if line.strip()]
        raise ArtifactError(f"{path}: is not an IR that OpenVINO reads: {words[-1]}", "Run to-ir again.") from error


def _argmax_input(model: Any, path: Path, output: str) -> str:
    """The name of the logits: what the ArgMax behind `output` takes."""
    producers = {name: node for node in model.graph.node for name in node.output}
    node = producers.get(output)
    while node is not None and node.op_type != "ArgMax":
        node = producers.get(node.input[0]) if node.input else None
    if node is None:
        raise ArtifactError(f"{path}: {output} does not come from an ArgMax, so that there are no logits to compare")
    return str(node.input[0])


def _topk_input(model: Any, path: Path) -> Any:
    """The logits' port: what the TopK behind the result takes (OpenVINO's form of ArgMax)."""
    node = model.outputs[0].get_node()
    while node.get_type_name() != "TopK":
        if not node.inputs():
            raise ArtifactError(f"{path}: its output does not come from an argmax, there are no logits to compare")
        node = node.input_value(0).get_node()
    return node.input_value(0)
