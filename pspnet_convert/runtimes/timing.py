"""Time models that take turns, each loaded in a process of its own.

Machines are shared and noisy. In turns, all models meet the same noise: compare the times of one round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.device import CPU
from pspnet_convert.errors import ArtifactError
from pspnet_convert.processor import capped, executed_instructions
from pspnet_convert.runtimes import read_back
from pspnet_convert.runtimes.devices import settings_on
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.runtimes.precision_hint import IN_F32
from pspnet_convert.worker_process import Worker, WorkerError, flush_output

if TYPE_CHECKING:
    import openvino

_PAUSE = 0.2  # seconds between turns; the threads of the last turn go to sleep in it


@dataclass(frozen=True)
class Subject:
    """A model to time. `runtime`: PyTorch, ONNX or IR. `graph`: a name for the graph it was made from.

    `weights`: FP32, FP16 or INT8. `at`: f32 or default, the precision that an IR is run at. `form`: of its input.
    `processor`: the instruction set to which the processor is capped. `device`: of OpenVINO, for an IR.
    """

    runtime: str
    graph: str
    weights: str
    at: str
    path: Path
    form: InputForm = PLAIN
    processor: str | None = None
    device: str = CPU

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.runtime} {self.path.name}"


class Contestant:
    """A process that holds what `make(*arguments)` made: a Loaded, or what has its two attributes.

    `precision` is what the runtime computes in. `processor`: the instruction set to which the process is capped.
    ArtifactError if the object cannot be made or run.
    """

    def __init__(
        self, name: str, make: Callable[..., Any], arguments: Sequence[Any], processor: str | None = None
    ) -> None:
        self._name = name
        environment: dict[str, str | None] = {"OMP_WAIT_POLICY": None}  # cli.py sets it, for verify
        environment.update(capped(processor) if processor else {})
        self._worker = Worker(name, make, arguments, environment=environment)
        try:
            self.precision = str(self.call(_precision_of))
            if processor is not None:
                self.run()
                self.call(flush_output)
                executed_instructions(processor, self._worker.output())
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def run(self) -> float:
        """Run one batch; returns seconds."""
        return float(self.call(_seconds))

    def peak_memory(self) -> float:
        """The most memory that the process has used, in bytes."""
        return float(self.call(_peak_memory))

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call `function` (defined in a module) on the loaded subject, in the process, and return its result."""
        with self._own_words():
            return self._worker.call(function, *arguments)

    def end(self) -> None:
        """End the process."""
        self._worker.end()

    @contextmanager
    def _own_words(self) -> Iterator[None]:
        try:
            yield
        except WorkerError as error:
            advice = "Run `pspnet-convert verify` to see why."
            raise ArtifactError(f"{self._name} does not run: {error}", advice) from error


def contestant(card: ModelCard, shape: ImageShape, subject: Subject) -> Contestant:
    """A process with the model of `subject` loaded, which takes images of `shape`."""
    return Contestant(subject.name, load, (card, shape, subject), subject.processor)


@contextmanager
def contestants(card: ModelCard, shape: ImageShape, chosen: Sequence[Subject]) -> Iterator[list[Contestant]]:
    """A process for each of `chosen`, with its model loaded; all end with the context."""
    started: list[Contestant] = []
    try:
        for subject in chosen:
            started.append(contestant(card, shape, subject))
        yield started
    finally:
        for one in started:
            one.end()


def run_round(started: Sequence[Contestant], note: Callable[[], None] = lambda: None) -> list[float]:
    """Run each once, in turn; returns seconds. `note` is called after each turn."""
    seconds = []
    for one in started:
        time.sleep(_PAUSE)
        seconds.append(one.run())
        note()
    return seconds


def seconds_in_turns(
    card: ModelCard, shape: ImageShape, chosen: Sequence[Subject], rounds: int
) -> tuple[NDArray[np.float64], list[str]]:
    """Seconds for one image [rounds, subjects], after a round to warm up; and the precision that each computes in.

    A batch's time is divided by its images; a dynamic batch is run with one image.
    """
    batch = max(1, shape[0])
    with contestants(card, (batch, *shape[1:]), chosen) as started:
        turns = [run_round(started) for _ in range(rounds + 1)]
        return np.array(turns[1:]) / batch, [one.precision for one in started]


@dataclass(frozen=True)
class Loaded:
    """A subject in its process: how it is run, and what it computes in."""

    run: Callable[[], Any]
    precision: str


def load(card: ModelCard, shape: ImageShape, subject: Subject) -> Loaded:
    """The model of `subject`, in this process, and an image of `shape` to run it on."""
    return Loaded(*_OPEN[subject.runtime](card, shape, subject))


def _precision_of(loaded: Loaded) -> str:
    return loaded.precision


def _seconds(loaded: Loaded) -> float:
    start = time.perf_counter()
    loaded.run()
    return time.perf_counter() - start


def _open_pytorch(card: ModelCard, shape: ImageShape, subject: Subject) -> tuple[Callable[[], Any], str]:
    import torch

    from pspnet_convert.pytorch.checkpoint import load_checkpoint
    from pspnet_convert.pytorch.network import build_network

    network = build_network(card, load_checkpoint(subject.path, card))
    image = torch.from_numpy(noise(shape, subject))

    def run() -> None:
        with torch.inference_mode():
            network(image).argmax(dim=1)

    return run, "f32"


def _open_onnx(card: ModelCard, shape: ImageShape, subject: Subject) -> tuple[Callable[[], Any], str]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(subject.path), providers=["CPUExecutionProvider"])
    image = noise(shape, subject)
    return lambda: session.run([card.output.name], {card.input.name: image}), "f32"


def _open_ir(card: ModelCard, shape: ImageShape, subject: Subject) -> tuple[Callable[[], Any], str]:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(str(subject.path), subject.device, ir_settings(core, subject))
    image = noise(shape, subject)
    return lambda: compiled(image), computed_in(compiled, subject)


def ir_settings(core: openvino.Core, subject: Subject) -> dict[str, Any]:
    """OpenVINO's settings for the precision that `subject` is run at, on its device. Raises the errors of
    devices.find_devices."""
    return settings_on(core, subject.device, IN_F32 if subject.at == "f32" else {})


def computed_in(compiled: openvino.CompiledModel, subject: Subject) -> str:
    """What a compiled model computes in: f32, bf16 or f16; for INT8, what is not quantized: i8+f32, say."""
    precision = read_back.computed_in(compiled)
    return f"i8+{precision}" if subject.weights == "INT8" else precision


_OPEN = {"PyTorch": _open_pytorch, "ONNX": _open_onnx, "IR": _open_ir}


def noise(shape: ImageShape, subject: Subject) -> NDArray[Any]:
    """A batch of noise; the time does not depend on what the image shows."""
    batch, channels, height, width = shape
    return subject.form.tensor(list(np.random.default_rng(0).random((batch, height, width, channels), np.float32)))


def _peak_memory(_: Loaded) -> float:
    """Bytes. Linux's figure for this process; getrusage's would include the parent's before the fork."""
    status = Path("/proc/self/status")
    if status.exists():
        line: str | None = next((line for line in status.read_text().splitlines() if "VmHWM" in line), None)
        if line is not None:
            return 1024 * float(line.split()[1])
    import resource

    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
