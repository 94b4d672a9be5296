"""A prediction with its logits in a file. The memory may not hold those of all inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.runtimes.backends import Prediction


@dataclass(frozen=True)
class KeptPrediction:
    """A prediction as `Prediction`, with its logits in a file: those of many inputs would fill the memory."""

    labels: NDArray[np.uint8]
    file: Path
    shape: tuple[int, ...]

    @property
    def logits(self) -> NDArray[np.float32]:
        """Read each time."""
        return np.fromfile(self.file, np.float32).reshape(self.shape)


def keep(prediction: Prediction, file: Path) -> KeptPrediction:
    # np.save's OSError does not say that the disk is full.
    file.write_bytes(np.ascontiguousarray(prediction.logits).data)
    return KeptPrediction(prediction.labels.astype(np.uint8), file, prediction.logits.shape)
