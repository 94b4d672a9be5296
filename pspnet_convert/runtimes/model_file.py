"""A model file to run: a checkpoint, an ONNX file, or an IR with its two files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pspnet_convert.device import CPU
from pspnet_convert.runtimes.logit_error import Precision


@dataclass(frozen=True)
class ModelFile:
    """A checkpoint, .onnx or .xml; logs and results call it `name`.

    `claims`: the precision that its weights should have; None: read it from the file. `at_default_precision`: it runs
    at the device's, not at f32. `processor`: the instruction set to which the processor is capped. `device`: of
    OpenVINO, for an .xml.
    """

    name: str
    path: Path
    claims: Precision | None = None
    at_default_precision: bool = False
    processor: str | None = None
    device: str = CPU

    @property
    def parts(self) -> list[Path]:
        """All files of the model."""
        return [self.path, self.path.with_suffix(".bin")] if self.path.suffix == ".xml" else [self.path]
