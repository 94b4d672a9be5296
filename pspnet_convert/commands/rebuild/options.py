"""The options of `rebuild`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pspnet_convert.options import FILE, Options, option


@dataclass(frozen=True)
class RebuildOptions(Options):
    """The manifest to follow, and its checkpoint."""

    check: Path | None = option(
        None, group="Input", type=FILE, required=True, help="The manifest.json whose ONNX and IRs are made again."
    )
    checkpoint: Path | None = option(
        None, group="Input", type=FILE, show_default="the one next to the manifest", help="The manifest's checkpoint."
    )
