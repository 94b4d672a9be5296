"""What a checkpoint says about its classes and its training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metadata:
    """A checkpoint's metadata; None for what it does not state. Each of `classes` is printable and not empty."""

    classes: list[str] | None = None
    palette: list[list[int]] | None = None
    mmseg_version: str | None = None
    config: str | None = None
    experiment: str | None = None  # the name that mmengine or mmcv gave to the training, after its config
