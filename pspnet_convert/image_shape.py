"""The shape of a model's input, and its limits."""

from __future__ import annotations

ImageShape = tuple[int, int, int, int]  # [N, C, H, W], also of a model that takes [N, H, W, C]
DYNAMIC = -1  # the N of a model that takes any number of images
MAX_SIDE = 8192  # pixels
MAX_CHANNELS = 512  # OpenCV's limit, in which mmsegmentation resizes
MAX_BATCH = 64
