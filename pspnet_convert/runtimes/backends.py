"""Run a segmentation model on images, with PyTorch, ONNX Runtime or OpenVINO.

Each backend gives the label maps and the logits they come from: the argmax's input, made an extra output in memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import Input, ModelCard
from pspnet_convert.device import CPU
from pspnet_convert.errors import ArtifactError, ContractError, ImageError, first_line
from pspnet_convert.runtimes.devices import settings_on
from pspnet_convert.runtimes.in_flight import run_in_flight
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
from pspnet_convert.runtimes.logit_error import Precision
from pspnet_convert.runtimes.logits_tap import argmax_nodes, ir_labels, ir_logits, ir_tail, onnx_logits, onnx_tail
from pspnet_convert.runtimes.openvino_install import require_openvino
from pspnet_convert.runtimes.output_form import SCORES, Labels, ModelAnswer, OutputForm, answers_of_batch, labels_of
from pspnet_convert.runtimes.precision_hint import compile_hints
from pspnet_convert.runtimes.read_back import computed_in, ran_on
from pspnet_convert.runtimes.repeatable import check_repeatable, ir_operations, onnx_operations

_BEGINS_AS_IR = re.compile(r"\s*(<\?xml[^>]*>)?\s*<net\s")


@dataclass(frozen=True)
class Prediction:
    """`labels`: integers [H, W]. `logits`: float32 [classes, H, W], at the image's size."""

    labels: Labels
    logits: NDArray[np.float32]


class Backend(Protocol):
    """`run` takes images of the model's size [H, W, C], colours as BGR; it gives a prediction for each.

    It takes one batch of images, gives their predictions, and only then takes the next.
    """

    def run(self, images: Iterable[Image]) -> Iterator[Prediction]: ...


class Converted(Backend, Protocol):
    """A converted model; `slots` is the largest batch that it is run with, `weights` how its file stores them.

    `run` has the logits as one more output of the model. `as_shipped` runs the model as its file is. `argmax` runs the
    model's last step alone: from float32 logits [slots, classes, H, W], at the model's size, to labels [slots, H, W];
    None for a model without a label map. ArtifactError if that step does not take such logits.
    """

    slots: int

    @property
    def weights(self) -> Precision: ...

    def as_shipped(self, images: Iterable[Image]) -> Iterator[ModelAnswer]: ...

    def argmax(self, logits: NDArray[np.float32]) -> Labels | None: ...


def normalised(images: Sequence[Image], card_input: Input) -> NDArray[np.float32]:
    """The input of the PyTorch and ONNX models, float32 [N, C, H, W], from images [H, W, C], colours as BGR."""
    stacked = np.stack(images)
    ordered = stacked[..., ::-1] if card_input.color_order == "RGB" else stacked
    values = (ordered - np.array(card_input.mean, np.float32)) / np.array(card_input.scale, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)


class TorchBackend:
    """The reference: a PyTorch module that gives logits. Runs one image at a time, of any size."""

    def __init__(self, network: Any, card_input: Input) -> None:
        self._network = network
        self._input = card_input

    def run(self, images: Iterable[Image]) -> Iterator[Prediction]:
        import torch

        for image in images:
            with torch.inference_mode():
                logits = self._logits(torch.from_numpy(normalised([image], self._input)))[0]
                prediction = Prediction(logits.argmax(dim=0).numpy(), logits.numpy())
            yield prediction

    def _logits(self, image: Any) -> Any:
        try:
            return self._network(image)
        except Exception as error:  # the network's code raises errors of any kind
            size = "x".join(map(str, image.shape[2:]))
            raise ImageError(
                f"the network does not take images of {size} (height x width): {first_line(error)}",
                "Change the test pipeline or the padding (test_cfg of the data_preprocessor), or use another protocol.",
            ) from error


class OnnxBackend:
    """An ONNX file on ONNX Runtime's CPU provider. ContractError if its inputs or outputs are not the card's, or if its
    answer to an image can change."""

    def __init__(self, path: Path, card: ModelCard, shape: ImageShape, gives: OutputForm | None = None) -> None:
        model = read_onnx(path)
        check_signature(path, onnx_signature(model), card, shape, gives=gives)
        check_repeatable(path, onnx_operations(model))
        self._labels = card.output.name
        self._outputs = [value.name for value in model.graph.output]
        self._logits = onnx_logits(model, path, self._labels)
        self._tail: bytes | None = None
        if self._labels in self._outputs:
            self._tail = onnx_tail(model, argmax_nodes(model, path, self._labels), self._logits)
        self._path = path
        self._input = card.input
        self._batch = shape[0]
        self.slots = max(batch_sizes(shape[0]))

    def run(self, images: Iterable[Image]) -> Iterator[Prediction]:
        for group in batches(images, self._batch):
            given = normalised(pad_batch(group, self._batch), self._input)
            wanted = list(dict.fromkeys([*self._outputs, self._logits]))
            results = self._run(self._tapped, wanted, given)
            yield from _predictions(self._path, results, self._labels, results[self._logits], given)[: len(group)]

    def as_shipped(self, images: Iterable[Image]) -> Iterator[ModelAnswer]:
        for group in batches(images, self._batch):
            given = normalised(pad_batch(group, self._batch), self._input)
            results = self._run(self._as_shipped, self._outputs, given)
            yield from answers_of_batch(results, self._labels)[: len(group)]

    def argmax(self, logits: NDArray[np.float32]) -> Labels | None:
        if self._tail is None:
            return None
        session = onnx_session(self._path, self._tail)
        try:
            (labels,) = session.run(None, {session.get_inputs()[0].name: logits})
        except Exception as error:  # see onnx_session
            raise ArtifactError(f"{self._path}: its argmax does not run on logits: {first_line(error)}") from error
        return labels[:, 0]  # type: ignore[no-any-return]

    @property
    def precision(self) -> str:
        return "f32"

    @property
    def ran_on(self) -> str:
        return CPU

    @property
    def weights(self) -> Precision:
        return "f32"

    @cached_property
    def _as_shipped(self) -> Any:
        return onnx_session(self._path, self._path.read_bytes())

    @cached_property
    def _tapped(self) -> Any:
        """The session that gives the logits too."""
        import onnx

        self.__dict__.pop("_as_shipped", None)  # one at a time is in memory
        # Protobuf merges messages that are written one after another: this adds an output to the graph.
        tap = onnx.ModelProto()
        if self._logits not in self._outputs:
            tap.graph.output.append(onnx.helper.make_tensor_value_info(self._logits, onnx.TensorProto.FLOAT, None))
        return onnx_session(self._path, self._path.read_bytes() + tap.SerializeToString())

    def _run(self, session: Any, outputs: Sequence[str], given: NDArray[np.float32]) -> dict[str, Any]:
        try:
            return dict(zip(outputs, session.run(outputs, {self._input.name: given})))
        except Exception as error:  # see onnx_session
            raise ArtifactError(f"{self._path}: ONNX Runtime cannot run it: {first_line(error)}") from error


class OpenVinoBackend:
    """An IR on a device of OpenVINO's; its input is plain BGR, or channels as they are stored.

    It computes in float32 where the device can, or with `at_default_precision` in what its metadata asks for, else in
    what the device prefers. `shape` (None: the card's) and `form` are those of the images; for `gives` see
    check_signature. With `throughput` several inferences of `in_flight` run at once: more images a second, and more
    memory. ContractError if the IR's inputs or outputs are not the card's, or have another shape or form, or if its
    answer to an image can change; DependencyError if the device is not there.
    """

    def __init__(
        self,
        path: Path,
        card: ModelCard,
        shape: ImageShape | None = None,
        form: InputForm = PLAIN,
        gives: OutputForm | None = None,
        *,
        device: str = CPU,
        at_default_precision: bool = False,
        throughput: bool = False,
    ) -> None:
        require_openvino()
        import openvino

        self._core = openvino.Core()
        self._model = read_ir(self._core, path)
        shape = shape or card.input.shape
        check_signature(path, ir_signature(self._model), card, shape, form, gives)
        check_repeatable(path, ir_operations(path))
        if _is_dynamic_inside(self._model, shape, form):
            raise ContractError(f"{path}: has dynamic shapes inside", "Convert it again for one fixed shape.")
        self._logits = ir_logits(self._model, path)
        self._tail = None if ir_labels(self._model) is None else ir_tail(self._model, path)
        self._labels = card.output.name
        self._path = path
        hints = compile_hints(self._model, at_default_precision=at_default_precision)
        hints |= {"PERFORMANCE_HINT": "THROUGHPUT"} if throughput else {}
        self._device, self._settings = device, settings_on(self._core, device, hints)
        self._form, self._batch = form, shape[0]
        self.slots = max(batch_sizes(shape[0]))

    def run(self, images: Iterable[Image]) -> Iterator[Prediction]:
        for given, results, count in self._results(self._tapped, images):
            logits = results[self._place_of_logits]
            named = results_by_name(self._model, results)
            yield from _predictions(self._path, named, self._labels, logits, given)[:count]

    def as_shipped(self, images: Iterable[Image]) -> Iterator[ModelAnswer]:
        for _, results, count in self._results(self._as_shipped, images):
            yield from answers_of_batch(results_by_name(self._model, results), self._labels)[:count]

    @property
    def scores(self) -> Sequence[str]:
        """Which of SCORES the model has, as its file is."""
        names = {name for port in self._model.outputs for name in port.get_names()}
        return [name for name in SCORES if name in names]

    def in_flight(self, images: Iterable[Image]) -> Iterator[ModelAnswer]:
        """As as_shipped, but while the model runs, images of the next batches are taken and prepared."""
        groups = batches(images, self._batch)
        given = ((self._form.tensor(pad_batch(group, self._batch)), len(group)) for group in groups)
        try:
            for results, count in run_in_flight(self._as_shipped, given):
                yield from answers_of_batch(results_by_name(self._model, results), self._labels)[:count]
        except RuntimeError as error:
            raise ArtifactError(f"{self._path}: OpenVINO cannot run it: {last_line(error)}") from error

    def argmax(self, logits: NDArray[np.float32]) -> Labels | None:
        if self._tail is None:
            return None
        try:
            compiled = self._core.compile_model(self._tail, self._device, self._settings)
            return compiled(logits)[0][:, 0].copy()  # type: ignore[no-any-return]
        except RuntimeError as error:
            raise ArtifactError(f"{self._path}: its argmax does not run on logits: {last_line(error)}") from error

    @property
    def precision(self) -> str:
        """What it computes in: f32, bf16 or f16."""
        return computed_in(self._tapped)

    @property
    def ran_on(self) -> str:
        """The devices that run it, with commas."""
        return ", ".join(ran_on(self._tapped))

    @property
    def weights(self) -> Precision:
        """FP16 if any weight in the IR is stored in FP16."""
        constants = [op for op in self._model.get_ops() if op.get_type_name() == "Constant"]
        stored = {op.get_element_type().get_type_name() for op in constants if len(op.get_output_shape(0))}
        return "FP16" if "f16" in stored else "f32"

    @cached_property
    def _as_shipped(self) -> Any:
        return self._compile(self._model)

    @cached_property
    def _tapped(self) -> Any:
        """The compiled model that gives the logits too."""
        self.__dict__.pop("_as_shipped", None)  # one at a time is in memory
        model = self._model.clone()
        if self._place_of_logits == len(model.outputs):
            model.add_outputs(ir_logits(model, self._path))
        return self._compile(model)

    @cached_property
    def _place_of_logits(self) -> int:
        """Which output of the tapped model they are: one that the file has, or one more."""
        sources = [port.get_node().input_value(0) for port in self._model.outputs]
        return sources.index(self._logits) if self._logits in sources else len(sources)

    def _compile(self, model: Any) -> Any:
        try:
            return self._core.compile_model(model, self._device, self._settings)
        except RuntimeError as error:
            raise ArtifactError(f"{self._path}: OpenVINO does not compile it: {last_line(error)}") from error

    def _results(
        self, compiled: Any, images: Iterable[Image]
    ) -> Iterator[tuple[NDArray[Any], list[NDArray[Any]], int]]:
        """For each batch its tensor, what the model gives, and how many of its slots have images."""
        for group in batches(images, self._batch):
            given = self._form.tensor(pad_batch(group, self._batch))
            try:
                found = compiled(given)
                # Copies: the next results use the same memory.
                yield given, [found[place].copy() for place in range(len(found))], len(group)
            except RuntimeError as error:
                raise ArtifactError(f"{self._path}: OpenVINO cannot run it: {last_line(error)}") from error


def _predictions(
    path: Path, results: Mapping[str, NDArray[Any]], of_labels: str, logits: NDArray[np.float32], given: NDArray[Any]
) -> Sequence[Prediction]:
    """Split labels [N, 1, H, W] and logits [N, classes, H, W] by image; ContractError if N is not that of `given`."""
    labels = results[of_labels][:, 0] if of_labels in results else labels_of(logits)
    if not len(labels) == len(logits) == len(given):
        raise ContractError(f"{path}: gives {len(labels)} label maps and {len(logits)} logits for {len(given)} images")
    return [Prediction(*one) for one in zip(labels, logits)]


def results_by_name(model: Any, results: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The results of an IR's own outputs, by each of their names."""
    return {name: found for port, found in zip(model.outputs, results) for name in port.get_names()}


def _is_dynamic_inside(model: Any, shape: ImageShape, form: InputForm) -> bool:
    """Whether a tensor has a dimension of no fixed size, other than the batch where `shape` says DYNAMIC."""
    if shape[0] == DYNAMIC:
        model = model.clone()
        try:
            model.reshape(list(form.ordered((1, *shape[1:]))))
        except RuntimeError:
            return True
    return bool(model.is_dynamic())


def read_ir(core: Any, path: Path) -> Any:
    """The openvino.Model of an .xml and its .bin; ArtifactError if a file is missing or broken."""
    for part in (path, path.with_suffix(".bin")):
        if not part.is_file():
            advice = "Run `pspnet-convert to-ir` first; for INT8, `pspnet-convert quantize`."
            raise ArtifactError(f"{part}: there is no such IR file", advice)
    again = "Run `pspnet-convert to-ir` again."
    try:
        # OpenVINO would try to read any other file as ONNX, TensorFlow and more, with weights from other files.
        if not _BEGINS_AS_IR.match(path.read_text(encoding="utf-8")):
            raise ArtifactError(f"{path}: is not an IR that OpenVINO reads: it does not begin with <net>", again)
        model = core.read_model(str(path))
    except (RuntimeError, ValueError) as error:
        raise ArtifactError(f"{path}: is not an IR that OpenVINO reads: {last_line(error)}", again) from error
    bits = 8 * max(1, path.with_suffix(".bin").stat().st_size)
    for node in model.get_ops():
        # OpenVINO checks a shape against the .bin's size in 64 bits, so that a huge shape overflows to a small one.
        if node.get_type_name() == "Constant" and math.prod(node.get_output_shape(0)) > bits:
            raise ArtifactError(f"{path}: a constant of {list(node.get_output_shape(0))} is not in its .bin")
    return model


def last_line(error: Exception) -> str:
    """The reason in one of OpenVINO's messages, which begin with the names of its source files."""
    return ([line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"])[-1]


def onnx_session(path: Path, model: bytes, *, optimised: bool = True) -> Any:
    """A session of ONNX Runtime's CPU provider; without `optimised` it runs each node as it stands. ArtifactError if it
    refuses the model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # an arena keeps the memory of the largest run; there are few runs
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the reference runs at the same time
    try:
        # The fallback would try the same provider again and print a message to stdout.
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    # ONNX Runtime's exceptions have no base class except Exception.
    except Exception as error:
        raise ArtifactError(f"{path}: ONNX Runtime refuses it: {first_line(error)}") from error
