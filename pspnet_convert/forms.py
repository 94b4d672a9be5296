"""Forms of names, colours and outputs: what options share with cards and with what runs models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

MODEL_NAME = r"^[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*$"
KEY_PREFIX = r"^([A-Za-z0-9_-]+\.)*$"  # of a checkpoint's keys
MAX_CLASSES, MAX_NAME = 255, 100  # a label map has bytes; characters
Output = Literal["labels", "logits", "probabilities"]
OUTPUTS: Sequence[Output] = ("labels", "logits", "probabilities")
LabelType = Literal["int64", "int32", "u8"]
LABEL_TYPES: Mapping[LabelType, str] = {"int64": "int64", "int32": "int32", "u8": "uint8"}  # numpy's and torch's names
Colour = tuple[int, int, int]  # red, green, blue
