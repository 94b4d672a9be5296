"""Time models that take turns, each loaded in a process of its own.

Machines are shared and noisy. In turns, all models meet the same noise: compare the times of one round.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.child_process import python_command, python_environment
from pspnet_convert.errors import ArtifactError
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm

log = logging.getLogger(__name__)
_PAUSE = 0.2  # seconds between turns; the threads of the last turn go to sleep in it


@dataclass(frozen=True)
class Subject:
    """A model to time. `runtime`: PyTorch, ONNX or IR. `graph`: a name for the graph it was made from.

    `weights`: FP32, FP16 or INT8. `at`: f32 or default, the precision that an IR is run at. `form`: of its input.
    """

    runtime: str
    graph: str
    weights: str
    at: str
    path: Path
    form: InputForm = PLAIN


class Contestant:
    """A process that holds one subject. `precision` is what the runtime computes in.

    ArtifactError if the subject cannot be loaded or run.
    """

    def __init__(self, card: ModelCard, shape: ImageShape, subject: Subject) -> None:
        self._name = f"{subject.runtime} {subject.path.name}"
        # Not multiprocessing, whose children run the caller's script again: it would have to guard its main part.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 -- `end` closes it
        self._process = subprocess.Popen(
            python_command("-c", f"from {__name__} import serve; serve()"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            env=python_environment(),
        )
        try:
            self._send((card, shape, subject))
            self.precision = str(self._answer())
        except BaseException:
            self.end()
            raise

    def run(self) -> float:
        """Run one batch; returns seconds."""
        return float(self.call(None))

    def peak_memory(self) -> float:
        """The most memory that the process has used, in bytes."""
        return float(self.call(_peak_memory))

    def call(self, function: Callable[..., Any] | None, *arguments: Any) -> Any:
        """Call `function` (defined in a module) in the process, and return its result; with None, run the model."""
        self._send((function, arguments))
        return self._answer()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._output.seek(0)
        for line in self._output.read().decode(errors="replace").splitlines():
            log.debug("%s: %s", self._name, line)
        self._output.close()

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the process has ended: _answer reports that
            _write(self._process.stdin, message)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        try:
            failed, value = pickle.load(self._process.stdout)  # noqa: S301 -- our own process wrote it
        except EOFError:
            failed, value = True, "its process ended"
        if failed:
            raise ArtifactError(f"{self._name} does not run: {value}", "Run `pspnet-convert verify` to see why.")
        return value


@contextmanager
def contestants(card: ModelCard, shape: ImageShape, chosen: Sequence[Subject]) -> Iterator[list[Contestant]]:
    """A process for each of `chosen`, with its model loaded; all end with the context."""
    started: list[Contestant] = []
    try:
        for subject in chosen:
            started.append(Contestant(card, shape, subject))
        yield started
    finally:
        for contestant in started:
            contestant.end()


def run_round(started: Sequence[Contestant], note: Callable[[], None] = lambda: None) -> list[float]:
    """Run each once, in turn; returns seconds. `note` is called after each turn."""
    seconds = []
    for contestant in started:
        time.sleep(_PAUSE)
        seconds.append(contestant.run())
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
        return np.array(turns[1:]) / batch, [contestant.precision for contestant in started]


def serve() -> None:
    """The process of a Contestant: load its subject, answer with the precision, then answer each call."""
    requests = sys.stdin.buffer
    # Libraries print to stdout: the answers have a file of their own.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at Ctrl-C the parent ends this process
    card, shape, subject = pickle.load(requests)  # noqa: S301 -- our own parent wrote it
    try:
        run, precision = _OPEN[subject.runtime](card, shape, subject)
        _write(answers, (False, precision))
        while True:
            try:
                function, arguments = pickle.load(requests)  # noqa: S301
            except EOFError:  # the parent has ended
                return
            _write(answers, (False, function(*arguments) if function else _seconds(run)))
    # The parent waits for an answer, whatever the error is.
    except Exception as error:
        _write(answers, (True, str(error)))


def _write(file: IO[bytes], message: Any) -> None:
    pickle.dump(message, file)
    file.flush()


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _open_pytorch(card: ModelCard, shape: ImageShape, subject: Subject) -> tuple[Callable[[], Any], str]:
    import torch

    from pspnet_convert.pytorch.checkpoint import load_checkpoint
    from pspnet_convert.pytorch.network import build_network

    network = build_network(card, load_checkpoint(subject.path, card))
    image = torch.from_numpy(_noise(shape, subject))

    def run() -> None:
        with torch.inference_mode():
            network(image).argmax(dim=1)

    return run, "f32"


def _open_onnx(card: ModelCard, shape: ImageShape, subject: Subject) -> tuple[Callable[[], Any], str]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(subject.path), providers=["CPUExecutionProvider"])
    image = _noise(shape, subject)
    return lambda: session.run([card.output.name], {card.input.name: image}), "f32"


def _open_ir(card: ModelCard, shape: ImageShape, subject: Subject) -> tuple[Callable[[], Any], str]:
    import openvino

    hint = {"INFERENCE_PRECISION_HINT": "f32"} if subject.at == "f32" else {}
    compiled = openvino.Core().compile_model(str(subject.path), "CPU", hint)
    image = _noise(shape, subject)
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if subject.weights == "INT8":
        precision = f"i8+{precision}"  # `precision` for the operations that are not quantized
    return lambda: compiled(image), precision


_OPEN = {"PyTorch": _open_pytorch, "ONNX": _open_onnx, "IR": _open_ir}


def _noise(shape: ImageShape, subject: Subject) -> NDArray[Any]:
    """A batch of noise; the time does not depend on what the image shows."""
    batch, channels, height, width = shape
    return subject.form.tensor(list(np.random.default_rng(0).random((batch, height, width, channels), np.float32)))


def _peak_memory() -> float:
    """Bytes. Linux's figure for this process; getrusage's would include the parent's before the fork."""
    status = Path("/proc/self/status")
    if status.exists():
        line: str | None = next((line for line in status.read_text().splitlines() if "VmHWM" in line), None)
        if line is not None:
            return 1024 * float(line.split()[1])
    import resource

    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
