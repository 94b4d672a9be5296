"""A converted model in a process of its own, with limits on time and memory: it may come from anywhere."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.device import CPU
from pspnet_convert.errors import ArtifactError
from pspnet_convert.runtimes.backends import OnnxBackend, OpenVinoBackend, Prediction
from pspnet_convert.runtimes.input_form import PLAIN, Image, ImageShape, InputForm, batch_sizes, batches
from pspnet_convert.runtimes.logit_error import Precision
from pspnet_convert.runtimes.output_form import Labels, ModelAnswer, OutputForm
from pspnet_convert.worker_process import Limits, Worker, WorkerError, flush_output

_ANY_MODEL = 4 * 2**30  # bytes
_PER_CPU = 64 * 2**20  # bytes: of each, a few threads' stacks, and room to work in
_PER_PIXEL = 16 * 2**10  # bytes
_MORE = "If the model is right and needs more time, give it more with --timeout."


def memory_for(weights: int, shape: ImageShape) -> int:
    """The bytes of memory that a converted model may use: more than a right one needs, less than the machine has.

    `weights`: the checkpoint's size in bytes. A runtime holds the weights up to three times while it compiles, and the
    maps that PSPNets make at one time were up to 3 kB a pixel of the image (UNet).
    """
    batch, _, height, width = shape
    needed = _ANY_MODEL + _PER_CPU * (os.cpu_count() or 1)
    needed += 4 * weights + _PER_PIXEL * max(batch_sizes(batch)) * height * width
    with suppress(ValueError, AttributeError):  # a system that does not say
        needed = min(needed, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return needed


@dataclass(frozen=True)
class OpenModel:
    """How a converted file is opened: an .onnx or .xml of `card`, for images of `shape` in `form`. For `gives` see
    check_signature; `device`: of OpenVINO, for an .xml."""

    path: Path
    card: ModelCard
    shape: ImageShape
    form: InputForm = PLAIN
    at_default_precision: bool = False
    gives: OutputForm | None = None
    device: str = CPU

    def open(self) -> OnnxBackend | OpenVinoBackend:
        """Open it in this process; raises the backends' errors."""
        if self.path.suffix != ".xml":
            return OnnxBackend(self.path, self.card, self.shape, self.gives)
        return OpenVinoBackend(
            self.path,
            self.card,
            self.shape,
            self.form,
            self.gives,
            device=self.device,
            at_default_precision=self.at_default_precision,
        )


class ChildModel:
    """A converted model (backends.Converted) in a process of its own, which ends with the context.

    The first call waits until it is open. Raises the backends' errors, and ArtifactError where the process ends, or
    comes to one of its `limits`. `environment` is added to that of this process.
    """

    def __init__(self, opened: OpenModel, limits: Limits, environment: Mapping[str, str] | None = None) -> None:
        self._opened, self._memory = opened, limits.memory
        self.slots = max(batch_sizes(opened.shape[0]))
        self._worker = Worker(opened.path.name, _Opened, (opened,), limits=limits, environment=environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the process; a call in another thread then raises ArtifactError."""
        self._worker.end()

    def open_another(self, opened: OpenModel) -> None:
        """Open another model in its place: a new process would take a second to import the runtimes."""
        self._opened = opened
        self.slots = max(batch_sizes(opened.shape[0]))
        self._call(_Opened.open, opened)

    def run(self, images: Iterable[Image]) -> Iterator[Prediction]:
        self._call(_Opened.begin)
        for group in batches(images, self._opened.shape[0]):
            yield from self._call(_Opened.next_predictions, group)

    def as_shipped(self, images: Iterable[Image]) -> Iterator[ModelAnswer]:
        self._call(_Opened.begin_as_shipped)
        for group in batches(images, self._opened.shape[0]):
            yield from self._call(_Opened.next_as_shipped, group)

    def argmax(self, logits: NDArray[np.float32]) -> Labels | None:
        labels: Labels | None = self._call(_Opened.argmax, logits)
        return labels

    @property
    def precision(self) -> str:
        """What it computes in: f32, bf16 or f16."""
        return str(self._call(_Opened.precision))

    @property
    def ran_on(self) -> str:
        """The devices that run it, with commas."""
        return str(self._call(_Opened.ran_on))

    @property
    def weights(self) -> Precision:
        """FP16 if any weight in the file is stored in FP16."""
        weights: Precision = self._call(_Opened.weights)
        return weights

    def printed(self) -> str:
        """What the libraries in the process have printed."""
        self._call(flush_output)
        return self._worker.output()

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with self._own_words():
            return self._worker.call(function, *arguments)

    @contextmanager
    def _own_words(self) -> Iterator[None]:
        try:
            yield
        except WorkerError as error:
            advice = _MORE if "took more than" in str(error) else None
            raise ArtifactError(f"{self._opened.path}: does not run: {error}", advice) from error
        except ArtifactError as error:
            if self._memory is None or "alloc" not in error.what:
                raise
            raise ArtifactError(f"{error.what} (it may use {self._memory / 1e9:.1f} GB of memory)") from error


class _Opened:
    """The opened model, in its process. Images come a batch at a time."""

    def __init__(self, opened: OpenModel) -> None:
        self._images: deque[Image] = deque()
        self._backend = opened.open()

    def open(self, opened: OpenModel) -> None:
        for name in ("_backend", "_predictions", "_answers"):  # one model at a time is in memory
            self.__dict__.pop(name, None)
        self._backend = opened.open()

    def begin(self) -> None:
        self._images.clear()
        self._predictions = self._backend.run(self._waiting())

    def begin_as_shipped(self) -> None:
        self._images.clear()
        self._answers = self._backend.as_shipped(self._waiting())

    def next_predictions(self, images: Sequence[Image]) -> list[Prediction]:
        self._images.extend(images)
        return list(islice(self._predictions, len(images)))

    def next_as_shipped(self, images: Sequence[Image]) -> list[ModelAnswer]:
        self._images.extend(images)
        return list(islice(self._answers, len(images)))

    def argmax(self, logits: NDArray[np.float32]) -> Labels | None:
        return self._backend.argmax(logits)

    def precision(self) -> str:
        return self._backend.precision

    def ran_on(self) -> str:
        return self._backend.ran_on

    def weights(self) -> Precision:
        return self._backend.weights

    def _waiting(self) -> Iterator[Image]:
        while self._images:
            yield self._images.popleft()
