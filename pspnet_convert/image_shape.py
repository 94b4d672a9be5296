"""The shape of a model's input, and its limits."""

from __future__ import annotations

ImageShape = tuple[int, int, int, int]  # [N, 3, H, W], also of a model that takes [N, H, W, 3]
DYNAMIC = -1  # the N of a model that takes any number of images
MAX_SIDE = 8192  # pixels
MAX_BATCH = 64
