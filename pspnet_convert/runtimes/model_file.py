"""A model file to run: a checkpoint, an ONNX, or an IR with its two halves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pspnet_convert.runtimes.logit_error import Precision


@dataclass(frozen=True)
class ModelFile:
    """A checkpoint, .onnx or .xml, told of by `name`. `claims`: what its weights are said to be; None: look."""

    name: str
    path: Path
    claims: Precision | None = None

    @property
    def parts(self) -> list[Path]:
        """All files of the model."""
        return [self.path, self.path.with_suffix(".bin")] if self.path.suffix == ".xml" else [self.path]
