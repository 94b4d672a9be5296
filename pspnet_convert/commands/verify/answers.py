"""Run a converted model on the inputs of a verification, and keep what it answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.candidates import Candidate
from pspnet_convert.commands.verify.kept_prediction import KeptAnswer, KeptPrediction, keep, keep_answer
from pspnet_convert.device import CPU
from pspnet_convert.errors import ArtifactError
from pspnet_convert.processor import capped, executed_instructions
from pspnet_convert.runtimes.backends import Converted
from pspnet_convert.runtimes.child_model import ChildModel
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.logit_error import Precision
from pspnet_convert.worker_process import Limits

Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Answers:
    """What a converted model gave, for each image.

    `as_shipped`: of the model as its file is. `predictions`: with its logits as one more output. `drawn`: labels
    [slots, H, W] of its last step alone, for drawn logits; the error's words where that does not run, None where the
    model gives no label map.
    `precision`: what decides how near its logits must be. `weights`: how the file stores them. `executed`: the
    instructions that it was run with, where the processor is capped. `ran_on`: the devices; `computed_in`: f32, bf16 or
    f16, as read back from the compiled model.
    """

    as_shipped: Sequence[KeptAnswer]
    predictions: Sequence[KeptPrediction]
    drawn: Labels | str | None
    precision: Precision
    weights: Precision
    executed: str | None = None
    ran_on: str = CPU
    computed_in: str = "f32"


class AnswersInChildren:
    """The answers of all candidates, one after another, from another process: on this processor as it is one for all,
    until a model fails in it; where the processor is capped, one for each.

    A thread waits for them while the block runs, in which `drawn` gets its result; `all` waits for the thread. Logits
    are kept in `folder`. `note` is called after each image.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        images: Sequence[Image],
        drawn: Future[NDArray[np.float32]],
        folder: Path,
        limits: Limits,
        note: Callable[[], None],
    ) -> None:
        self._candidates, self._images, self._drawn, self._folder = candidates, images, drawn, folder
        self._limits, self._note = limits, note
        self._running: ChildModel | None = None
        self._stopped = False
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        self._answers = self._threads.submit(self._ask_all)
        return self

    def __exit__(self, *_: object) -> None:
        self._drawn.cancel()
        with self._lock:
            self._stopped = True
        self._end()
        self._threads.shutdown()

    def all(self) -> list[tuple[Candidate, Answers | ArtifactError]]:
        """Each candidate with its answers, or with the error that it ended with.

        DependencyError where the processor was not capped or the device is not there, and the OSError of a full disk.
        """
        return self._answers.result()

    def _ask_all(self) -> list[tuple[Candidate, Answers | ArtifactError]]:
        found: list[tuple[Candidate, Answers | ArtifactError]] = []
        for number, candidate in enumerate(self._candidates):
            try:
                found.append((candidate, self._ask(candidate, self._folder / f"candidate-{number}")))
            except ArtifactError as error:
                found.append((candidate, error))
                self._end()  # whatever it has left in there
        return found

    def _ask(self, candidate: Candidate, folder: Path) -> Answers:
        model = self._open(candidate)
        found = answers_of(model, self._images, self._drawn.result, folder, self._note)
        # An INT8 model's labels are judged, whatever the rest of it computes in.
        precision = candidate.claims or found.weights
        if precision != "INT8":
            precision = RUNTIME.get(model.precision, precision)
        executed = executed_instructions(candidate.processor, model.printed()) if candidate.processor else None
        ran_on, computed_in = model.ran_on, model.precision
        if candidate.processor:
            self._end()
        return replace(found, precision=precision, executed=executed, ran_on=ran_on, computed_in=computed_in)

    def _open(self, candidate: Candidate) -> ChildModel:
        if candidate.processor:
            self._end()
        with self._lock:
            if self._stopped:
                raise ArtifactError(f"{candidate.model.path}: was not run")
            running = self._running
            if running is None:
                environment = capped(candidate.processor) if candidate.processor else {}
                self._running = ChildModel(candidate.model, self._limits, environment)
                return self._running
        running.open_another(candidate.model)
        return running

    def _end(self) -> None:
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.end()


RUNTIME: Mapping[str, Precision] = {"bf16": "bf16", "f16": "f16"}  # coarser than f32


def answers_of(
    model: Converted,
    images: Sequence[Image],
    drawn: Callable[[], NDArray[np.float32]],
    folder: Path,
    note: Callable[[], None] = lambda: None,
) -> Answers:
    """The answers of an open model. `drawn` gives logits [classes, H, W], which are shifted for each slot."""
    folder.mkdir()
    as_shipped = [
        keep_answer(one, folder / f"{number}-as-shipped") for number, one in enumerate(model.as_shipped(images))
    ]
    try:
        logits = np.stack([np.roll(drawn(), slot, axis=-1) for slot in range(model.slots)])
        of_drawn: Labels | str | None = model.argmax(logits)
    except ArtifactError as error:
        of_drawn = error.what
    predictions = []
    for number, prediction in enumerate(model.run(images)):
        predictions.append(keep(prediction, folder / f"{number}.logits"))
        note()
    return Answers(as_shipped, predictions, of_drawn, model.weights, model.weights)
