"""What a checkpoint says of itself beside its weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metadata:
    """What the checkpoint says of itself; None where it says nothing. Of `classes` each is printable, and not empty."""

    classes: list[str] | None = None
    palette: list[list[int]] | None = None
    mmseg_version: str | None = None
    config: str | None = None
