"""Forms of names and colours that options and cards share."""

from __future__ import annotations

MODEL_NAME = r"^[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*$"
KEY_PREFIX = r"^([A-Za-z0-9_-]+\.)*$"  # of a checkpoint's keys
MAX_CLASSES, MAX_NAME = 255, 100  # a label map has bytes; characters
Colour = tuple[int, int, int]  # red, green, blue
