"""How fast a model is: PyTorch, ONNX and IR of each graph, at f32 and at the default precision.

Machines are shared and noisy, so that one figure says little: all subjects stay loaded, each in a process of its
own, and take turns in one run; medians and ratios of the same round are what is told.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.benchmark.flops import gflops
from pspnet_convert.errors import ArtifactError
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm

# plain: what torch's exporter writes by itself; unfolded: with exact pools (--no-fold-pyramid); folded: the default.
GRAPHS = ("plain", "unfolded", "folded")
_PAUSE = 0.2  # seconds between turns, in which the last one's idle threads go to sleep
_SIDES = (1024, 2048, 3072)  # of the square matrices whose product is the machine's measured peak


@dataclass(frozen=True)
class Subject:
    """`runtime`: PyTorch, ONNX or IR; `graph`: one of GRAPHS; `weights`: FP32, FP16 or INT8; `at`: f32 or default.

    `form`: how it takes its images.
    """

    runtime: str
    graph: str
    weights: str
    at: str
    path: Path
    form: InputForm = PLAIN


@dataclass(frozen=True)
class Timing:
    """One subject's figures. `ratio`: how many times as fast as the plain FP32 IR at the same precision, or at f32
    for PyTorch and ONNX. `precision` is what the runtime really computes in. `file_mb`: the weights' file, 10^6 bytes.
    `share`: of the peak measured at the precision, 0..1; None for INT8."""

    runtime: str
    graph: str
    weights: str
    at: str
    precision: str
    median_ms: float
    images_per_second: float
    ratio: float
    file_mb: float
    peak_memory_mb: float
    gflops: float
    gflops_per_second: float
    share: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def subjects(checkpoint: Path, models: Mapping[str, tuple[Path, Mapping[str, Path]]]) -> list[Subject]:
    """What is compared; `models` has the ONNX and the IRs by precision of each graph."""
    found = [Subject("PyTorch", "plain", "FP32", "f32", checkpoint)]
    for graph, (onnx, irs) in models.items():
        found.append(Subject("ONNX", graph, "FP32", "f32", onnx))
        for at in ("f32", "default"):
            found.extend(Subject("IR", graph, weights, at, path) for weights, path in irs.items())
    return found


def time_in_turns(
    card: ModelCard,
    shape: ImageShape,
    chosen: Sequence[Subject],
    graphs: Mapping[str, Path],
    rounds: int,
    note: Callable[[], None] = lambda: None,
) -> list[Timing]:
    """Time each of `chosen` in `rounds` rounds after one to warm up; `graphs` are the ONNX files to count in.

    `note` is called after each turn. ArtifactError if a subject does not run.
    """
    operations = {name: gflops(path) for name, path in graphs.items()}
    with _contestants(card, shape, chosen) as contestants:
        # INT8 has no figure: torch multiplies such matrices in no public way.
        precisions = {c.precision for c, subject in zip(contestants, chosen) if subject.weights != "INT8"}
        # By the one that has torch loaded anyway: in another process it would count as that subject's memory.
        in_torch = next(c for c, subject in zip(contestants, chosen) if subject.runtime == "PyTorch")
        peaks = dict.fromkeys(precisions, 0.0)
        turns = []
        for _ in range(rounds + 1):
            turns.append(_turn(contestants, note))
            for precision in precisions:
                peaks[precision] = max(peaks[precision], in_torch.peak(precision))
        seconds = np.array(turns[1:])  # [rounds, subjects]
        rows = []
        for number, (subject, contestant) in enumerate(zip(chosen, contestants)):
            at = median(seconds[:, number])
            baseline = _baseline(chosen, subject)
            speed = operations[subject.graph] / at
            rows.append(
                Timing(
                    subject.runtime,
                    subject.graph,
                    subject.weights,
                    subject.at,
                    contestant.precision,
                    median_ms=1000 * at,
                    images_per_second=1 / at,
                    ratio=float(np.median(seconds[:, baseline] / seconds[:, number])),
                    file_mb=_weights_file(subject.path).stat().st_size / 1e6,
                    peak_memory_mb=contestant.peak_memory() / 1e6,
                    gflops=operations[subject.graph],
                    gflops_per_second=speed,
                    share=speed / peaks[contestant.precision] if contestant.precision in peaks else None,
                )
            )
        return rows


def _weights_file(path: Path) -> Path:
    return path.with_suffix(".bin") if path.suffix == ".xml" else path


def seconds_in_turns(
    card: ModelCard, shape: ImageShape, chosen: Sequence[Subject], rounds: int
) -> tuple[NDArray[np.float64], list[str]]:
    """Seconds [rounds, subjects] of one image, after a round to warm up; and what each subject computes in.

    A batch is shared out among its images; a dynamic one is run with one.
    """
    batch = max(1, shape[0])
    with _contestants(card, (batch, *shape[1:]), chosen) as contestants:
        turns = [_turn(contestants) for _ in range(rounds + 1)]
        return np.array(turns[1:]) / batch, [contestant.precision for contestant in contestants]


def _turn(contestants: Sequence[_Contestant], note: Callable[[], None] = lambda: None) -> list[float]:
    seconds = []
    for contestant in contestants:
        time.sleep(_PAUSE)
        seconds.append(contestant.run())
        note()
    return seconds


def _baseline(chosen: Sequence[Subject], subject: Subject) -> int:
    """The place of the plain FP32 IR at the subject's precision."""
    return next(
        number
        for number, other in enumerate(chosen)
        if (other.runtime, other.graph, other.weights, other.at) == ("IR", "plain", "FP32", subject.at)
    )


class _Contestant:
    """A process that holds one subject and runs it when told."""

    def __init__(self, card: ModelCard, shape: ImageShape, subject: Subject) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._name = f"{subject.runtime} {subject.path.name}"
        self._line, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, card, shape, subject), daemon=True)
        self._process.start()
        theirs.close()
        self.precision = str(self._answer())

    def run(self) -> float:
        """One image; returns seconds."""
        self._line.send("run")
        return float(self._answer())

    def peak_memory(self) -> float:
        """Bytes, since the process began."""
        self._line.send("memory")
        return float(self._answer())

    def peak(self, precision: str) -> float:
        """GFLOP/s of a matrix product at `precision`, in torch."""
        self._line.send(precision)
        return float(self._answer())

    def end(self) -> None:
        self._process.terminate()
        self._process.join()

    def _answer(self) -> Any:
        try:
            kind, value = self._line.recv()
        except EOFError:
            kind, value = "failed", "its process ended"
        if kind == "failed":
            raise ArtifactError(f"{self._name} does not run: {value}", "Run verify, which says what is wrong with it.")
        return value


@contextmanager
def _contestants(card: ModelCard, shape: ImageShape, chosen: Sequence[Subject]) -> Iterator[list[_Contestant]]:
    """All subjects, loaded."""
    contestants: list[_Contestant] = []
    try:
        for subject in chosen:
            contestants.append(_Contestant(card, shape, subject))
        yield contestants
    finally:
        for contestant in contestants:
            contestant.end()


def _serve(line: Connection, card: ModelCard, shape: ImageShape, subject: Subject) -> None:
    try:
        run, precision = _OPEN[subject.runtime](card, shape, subject)
        line.send(("ready", precision))
        while True:
            asked = line.recv()
            if asked == "run":
                start = time.perf_counter()
                run()
                line.send(("seconds", time.perf_counter() - start))
            elif asked == "memory":
                line.send(("bytes", _peak_memory()))
            else:
                line.send(("GFLOP/s", _matrix_product_peak(asked)))
    # Whatever stops this process, the one that waits for it must hear of it.
    except Exception as error:
        line.send(("failed", str(error)))


def _open_pytorch(card: ModelCard, shape: ImageShape, subject: Subject) -> tuple[Callable[[], Any], str]:
    import torch

    from pspnet_convert.pytorch.checkpoint import load_checkpoint
    from pspnet_convert.pytorch.network import build_network

    network = build_network(card, load_checkpoint(subject.path, card))
    image = torch.from_numpy(_image(shape, subject))

    def run() -> None:
        with torch.inference_mode():
            network(image).argmax(dim=1)

    return run, "f32"


def _open_onnx(card: ModelCard, shape: ImageShape, subject: Subject) -> tuple[Callable[[], Any], str]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(subject.path), providers=["CPUExecutionProvider"])
    image = _image(shape, subject)
    return lambda: session.run([card.output.name], {card.input.name: image}), "f32"


def _open_ir(card: ModelCard, shape: ImageShape, subject: Subject) -> tuple[Callable[[], Any], str]:
    import openvino

    hint = {"INFERENCE_PRECISION_HINT": "f32"} if subject.at == "f32" else {}
    compiled = openvino.Core().compile_model(str(subject.path), "CPU", hint)
    image = _image(shape, subject)
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if subject.weights == "INT8":
        precision = f"i8+{precision}"  # the latter where it is not quantized
    return lambda: compiled(image), precision


_OPEN = {"PyTorch": _open_pytorch, "ONNX": _open_onnx, "IR": _open_ir}


def _image(shape: ImageShape, subject: Subject) -> NDArray[Any]:
    """Noise; the time does not depend on what is in the image."""
    batch, _, height, width = shape
    return subject.form.tensor(list(np.random.default_rng(0).random((batch, height, width, 3), np.float32)))


def _matrix_product_peak(precision: str) -> float:
    """GFLOP/s of the fastest of some square matrix products in torch or NumPy: what the machine can do."""
    import torch

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[precision]
    best = 0.0
    for side in _SIDES:
        a, b = torch.randn(2, side, side).to(dtype)
        pairs: list[tuple[Any, Any]] = [(a, b)] * 3
        if dtype is torch.float32:
            pairs += [(a.numpy(), b.numpy())] * 3
        for left, right in pairs:
            start = time.perf_counter()
            _ = left @ right
            best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
    return best


def _peak_memory() -> float:
    """Bytes. Linux's own figure for this process; getrusage's would begin with the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line: str | None = next((line for line in status.read_text().splitlines() if "VmHWM" in line), None)
        if line is not None:
            return 1024 * float(line.split()[1])
    import resource

    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
