"""A prediction with its logits in a file. The memory may not hold those of all inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.runtimes.backends import Prediction


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


def keep(prediction: Prediction, file: Path) -> KeptPrediction:
    # np.save's OSError does not say that the disk is full.
    file.write_bytes(np.ascontiguousarray(prediction.logits).data)
    return KeptPrediction(in_bytes(prediction.labels), file, prediction.logits.shape)


def in_bytes(labels: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """As uint8; as they are where that does not hold them: the model is wrong then, and what it says is reported."""
    fits = labels.min() >= 0 and labels.max() <= np.iinfo(np.uint8).max
    return labels.astype(np.uint8) if fits else labels
