"""What models gave, with logits and probabilities in files. The memory may not hold those of all inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.runtimes.backends import Prediction
from pspnet_convert.runtimes.output_form import ModelAnswer


@dataclass(frozen=True)
class KeptPrediction:
    """A prediction as `Prediction`, with its logits in a file: those of many inputs would fill the memory."""

    labels: NDArray[np.integer[Any]]
    file: Path
    shape: tuple[int, ...]

    @property
    def logits(self) -> NDArray[np.float32]:
        """Read each time."""
        return np.fromfile(self.file, np.float32).reshape(self.shape)

    def loaded(self) -> Prediction:
        """With its logits in memory."""
        return Prediction(self.labels, self.logits)


@dataclass(frozen=True)
class KeptAnswer:
    """An answer as `ModelAnswer`, with its scores in `files`, by the outputs' names."""

    labels: NDArray[np.integer[Any]]
    files: Mapping[str, Path]
    shape: tuple[int, ...] = ()

    def scores(self, name: str) -> NDArray[np.float32]:
        """float32 [classes, H, W]. Read each time."""
        return np.fromfile(self.files[name], np.float32).reshape(self.shape)


def keep_answer(answer: ModelAnswer, place: Path) -> KeptAnswer:
    """`place`: the beginning of the files' names."""
    files, shape = {}, answer.labels.shape
    for name, values in answer.scores.items():
        files[name], shape = place.with_name(f"{place.name}.{name}"), values.shape
        _write(files[name], values)
    return KeptAnswer(in_bytes(answer.labels), files, shape)


def keep(prediction: Prediction, file: Path) -> KeptPrediction:
    _write(file, prediction.logits)
    return KeptPrediction(in_bytes(prediction.labels), file, prediction.logits.shape)


def _write(file: Path, values: NDArray[np.float32]) -> None:
    # np.save's OSError does not say that the disk is full.
    file.write_bytes(np.ascontiguousarray(values).data)


def in_bytes(labels: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """As uint8; as they are where that does not hold them: the model is wrong then, and what it says is reported."""
    fits = labels.min() >= 0 and labels.max() <= np.iinfo(np.uint8).max
    return labels.astype(np.uint8) if fits else labels
