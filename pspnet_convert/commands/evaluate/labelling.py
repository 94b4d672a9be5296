"""Get label maps from a model, for evaluation: an IR runs several inferences at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ArtifactError
from pspnet_convert.processor import capped, executed_instructions
from pspnet_convert.runtimes.backends import OnnxBackend, TorchBackend, last_line, read_ir, results_by_name
from pspnet_convert.runtimes.child_model import ChildModel, OpenModel
from pspnet_convert.runtimes.devices import settings_on
from pspnet_convert.runtimes.input_form import PLAIN, Image, ImageShape, InputForm, pad_batch
from pspnet_convert.runtimes.io_signature import check_signature, ir_signature
from pspnet_convert.runtimes.merging import Answer
from pspnet_convert.runtimes.model_file import ModelFile
from pspnet_convert.runtimes.output_form import answers_of_batch
from pspnet_convert.runtimes.precision_hint import compile_hints
from pspnet_convert.runtimes.read_back import computed_in, ran_on
from pspnet_convert.worker_process import Limits

PYTORCH, ONNX = "PyTorch", "ONNX"
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True, order=True)
class Runs:
    """`device`: as it was asked for; `on`: those that ran, with commas; `computed_in`: f32, bf16 or f16."""

    device: str
    on: str
    computed_in: str


class Labeller(Protocol):
    """`start` takes an image, BGR [h, w, 3], uint8 or float32, and returns a function that waits for the answer.

    A labeller may also do the work before it returns. At most `at_once` images may be started and not yet waited for;
    wait in the order of the starts. `align_corners`: how mmsegmentation resizes the logits, if the model gives them.
    """

    at_once: int
    align_corners: bool

    @property
    def runs(self) -> Runs | None:
        """Where it runs, and what it computes in, as OpenVINO reports it; None for the other runtimes. Ask after the
        last answer."""

    def start(self, image: Image) -> Callable[[], Answer]: ...

    def end(self) -> None:
        """Call when no image is left."""


def open_labeller(subject: ModelFile, card: ModelCard, shape: ImageShape, form: InputForm = PLAIN) -> Labeller:
    """Open the model. ArtifactError or CheckpointError for a file that does not match the card."""
    if subject.name == PYTORCH:
        return TorchLabeller(subject.path, card)
    if subject.name == ONNX:
        return OnnxLabeller(subject.path, card, shape)
    if subject.processor is not None:
        return CappedLabeller(subject, card, shape, form)
    return OpenVinoLabeller(subject, card, shape, form)


class TorchLabeller:
    """The PyTorch reference, for images of any size."""

    at_once = 1
    runs = None

    def __init__(self, path: Path, card: ModelCard) -> None:
        from pspnet_convert.pytorch.checkpoint import load_checkpoint
        from pspnet_convert.pytorch.network import build_network

        network = build_network(card, load_checkpoint(path, card))
        self.align_corners = network.align_corners
        self._backend = TorchBackend(network, card.input)

    def start(self, image: Image) -> Callable[[], Answer]:
        (prediction,) = self._backend.run([image])
        answer = Answer(prediction.labels, prediction.logits)
        return lambda: answer

    def end(self) -> None:
        """Free the network."""
        del self._backend


class _Slots:
    """The images of one run. It begins when all slots are taken, or when the first label map is waited for.

    `begin` takes the images and returns a function that waits for all their label maps.
    """

    def __init__(self, count: int, begin: Callable[[list[Image]], Callable[[], list[Labels]]]) -> None:
        self._count, self._begin = count, begin
        self._images: list[Image] = []
        self._wait: Callable[[], list[Labels]] | None = None

    @property
    def closed(self) -> bool:
        return self._wait is not None

    def take(self, image: Image) -> Callable[[], Labels]:
        """Put the image into the next slot; returns a function that waits for its label map."""
        slot = len(self._images)
        self._images.append(image)
        if len(self._images) == self._count:
            self._start()
        return lambda: self._start()()[slot]

    def _start(self) -> Callable[[], list[Labels]]:
        if self._wait is None:
            self._wait = cache(self._begin(self._images))
        return self._wait


class _FixedSize(ABC):
    """A converted model, for images of its size only. A run fills all its slots; a dynamic batch has one."""

    align_corners = False  # it gives no logits

    def __init__(self, path: Path, shape: ImageShape) -> None:
        self._path, self._shape = path, shape
        self._batch = max(1, shape[0])
        self._slots = _Slots(self._batch, self._begin)

    def start(self, image: Image) -> Callable[[], Answer]:
        _check_size(self._path, self._shape, image)
        if self._slots.closed:
            self._slots = _Slots(self._batch, self._begin)
        wait = self._slots.take(image)
        return lambda: Answer(wait())

    @abstractmethod
    def end(self) -> None:
        """Free the model."""

    @abstractmethod
    def _begin(self, images: list[Image]) -> Callable[[], list[Labels]]:
        """Begin a run; returns a function that waits for the label maps."""


class OnnxLabeller(_FixedSize):
    """An ONNX file on ONNX Runtime."""

    runs = None

    def __init__(self, path: Path, card: ModelCard, shape: ImageShape) -> None:
        super().__init__(path, shape)
        self._backend = OnnxBackend(path, card, shape)
        self.at_once = self._batch

    def _begin(self, images: list[Image]) -> Callable[[], list[Labels]]:
        found = [prediction.labels for prediction in self._backend.run(images)]
        return lambda: found

    def end(self) -> None:
        del self._backend


class CappedLabeller(_FixedSize):
    """An IR as on a processor with fewer instructions, in a process of its own."""

    def __init__(self, subject: ModelFile, card: ModelCard, shape: ImageShape, form: InputForm) -> None:
        super().__init__(subject.path, shape)
        assert subject.processor is not None
        self._processor, self._device = subject.processor, subject.device
        opened = OpenModel(subject.path, card, shape, form, subject.at_default_precision)
        self._model = ChildModel(opened, Limits(), capped(subject.processor))
        self._is_checked = False
        self.at_once = self._batch

    def _begin(self, images: list[Image]) -> Callable[[], list[Labels]]:
        found = [answer.labels for answer in self._model.as_shipped(images)]
        if not self._is_checked:
            executed_instructions(self._processor, self._model.printed())
            self._is_checked = True
        return lambda: found

    @property
    def runs(self) -> Runs:
        return Runs(self._device, self._model.ran_on, self._model.precision)

    def end(self) -> None:
        self._model.end()


class OpenVinoLabeller(_FixedSize):
    """An IR; OpenVINO chooses how many inferences run at once."""

    def __init__(self, subject: ModelFile, card: ModelCard, shape: ImageShape, form: InputForm) -> None:
        import openvino

        path = subject.path
        super().__init__(path, shape)
        core = openvino.Core()
        model = read_ir(core, path)
        check_signature(path, ir_signature(model), card, shape, form)
        precision = compile_hints(model, at_default_precision=subject.at_default_precision)
        settings = settings_on(core, subject.device, {"PERFORMANCE_HINT": "THROUGHPUT", **precision})
        try:
            compiled = core.compile_model(model, subject.device, settings)
        except RuntimeError as error:
            raise ArtifactError(f"{path}: OpenVINO does not compile it: {last_line(error)}") from error
        requests = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._requests = deque(compiled.create_infer_request() for _ in range(requests))
        self._model, self._of_labels, self._form = model, card.output.name, form
        self._compiled, self._device = compiled, subject.device
        self.at_once = requests * self._batch

    @property
    def runs(self) -> Runs:
        return Runs(self._device, ", ".join(ran_on(self._compiled)), computed_in(self._compiled))

    def _begin(self, images: list[Image]) -> Callable[[], list[Labels]]:
        request = self._requests[0]
        self._requests.rotate(-1)
        request.start_async([self._form.tensor(pad_batch(images, self._batch))])

        def wait() -> list[Labels]:
            try:
                request.wait()
            except RuntimeError as error:
                raise ArtifactError(f"{self._path}: OpenVINO cannot run it: {last_line(error)}") from error
            results = [tensor.data.copy() for tensor in request.output_tensors]
            answers = answers_of_batch(results_by_name(self._model, results), self._of_labels)
            return [answer.labels for answer in answers]

        return wait

    def end(self) -> None:
        self._requests.clear()
        del self._compiled


def _check_size(path: Path, shape: ImageShape, image: Image) -> None:
    size = shape[2:]
    if image.shape[:2] != size:
        raise ArtifactError(
            f"{path}: takes only {size[1]}x{size[0]}, but this protocol gives {image.shape[1]}x{image.shape[0]}",
            "Evaluate only PyTorch (--backend PyTorch), or use --protocol crop or pad.",
        )
