"""How the workspace's IRs were made, as far as their FP16 constants depend on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conversion:
    """With a folded pyramid or not; by which front-end (mo or ovc), of which release of OpenVINO.

    `is_plain`: without further arguments of Model Optimizer, which can change anything.
    """

    fold_pyramid: bool
    front_end: str
    openvino: str
    is_plain: bool = True
