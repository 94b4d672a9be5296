"""How mmsegmentation tests a model: the test pipeline, the data preprocessor, the test mode and the metric."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pspnet_convert.cards.card_model import CardModel

# A list, because the registry has more: these use nothing but their arguments and the image.
STEPS = (
    "AdjustGamma",
    "CLAHE",
    "LoadAnnotations",
    "LoadImageFromFile",
    "Normalize",
    "PackSegInputs",
    "Pad",
    "RGB2Gray",
    "Rerange",
    "Resize",
    "ResizeShortestEdge",
    "ResizeToMultiple",
)
PREPROCESSOR = "SegDataPreProcessor"
# How a step reads files. The tool reads them itself; one of mmengine's ways imports from a folder that it is given.
OF_FILES = ("backend_args", "file_client_args")
_MAX_NUMBER, _MAX_VALUES, _MAX_SIDE = 1e12, 200, 16384


class Testing(CardModel):
    """mmsegmentation's evaluation of a model, as plain data from its config.

    `pipeline`: the steps of the test pipeline (mmseg and mmcv.transforms), in order, from LoadImageFromFile to
    PackSegInputs; empty where it is not known. `preprocessor`: the arguments of SegDataPreProcessor. In `mode` slide,
    windows of `crop_size` are taken every `stride` pixels (both height and width), and their logits averaged.
    `metrics`, `beta` and `nan_to_num` are IoUMetric's.
    """

    pipeline: list[dict[str, Any]] = Field([], max_length=20)
    preprocessor: dict[str, Any] = Field({})
    mode: Literal["whole", "slide"] = "whole"
    crop_size: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    metrics: list[Literal["mIoU", "mDice", "mFscore"]] = Field(default=["mIoU"], min_length=1, max_length=3)
    beta: float = Field(default=1, gt=0, lt=100)
    nan_to_num: float | None = Field(default=None, ge=-100, le=100)

    @property
    def loads_by_tifffile(self) -> bool:
        """Whether images are loaded as TIFF, with all their channels and bits."""
        return self.pipeline[0].get("imdecode_backend") == "tifffile"

    @property
    def loads_plain_pictures(self) -> bool:
        """Whether images are loaded as three colours in bytes, which is the default of LoadImageFromFile."""
        return self.loads_bytes and self.pipeline[0].get("color_type", "color") == "color"

    @property
    def keeps_colours(self) -> bool:
        """Whether the network gets plain pictures as they are loaded: no step turns them into grey."""
        return self.loads_plain_pictures and self.step_to_grey is None

    @property
    def step_to_grey(self) -> Mapping[str, Any] | None:
        """The first step that turns pictures into grey."""
        return next((step for step in self.pipeline if step["type"] == "RGB2Gray"), None)

    @property
    def loads_bytes(self) -> bool:
        """Whether values of more than 8 bits are cut to 8 when they are loaded."""
        return not self.loads_by_tifffile and self.pipeline[0].get("color_type") != "unchanged"

    @property
    def channels_loaded(self) -> int | None:
        """The channels of the pipeline's images; None where it depends on the file."""
        gray = self.step_to_grey
        if gray is not None:
            return int(gray.get("out_channels") or len(gray.get("weights", "BGR")))
        if self.loads_plain_pictures:
            return 3
        is_gray = str(self.pipeline[0].get("color_type")).startswith("grayscale")
        return 1 if is_gray and not self.loads_by_tifffile else None

    @field_validator("pipeline")
    @classmethod
    def _check_pipeline(cls, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for step in steps:
            if step.get("type") not in STEPS:
                raise ValueError(f"{str(step.get('type'))[:100]!r} is not one of {', '.join(STEPS)}")
        check_plain(steps)
        if steps and (steps[0]["type"], steps[-1]["type"]) != ("LoadImageFromFile", "PackSegInputs"):
            raise ValueError("does not begin with LoadImageFromFile and end with PackSegInputs")
        for step in steps:
            if step["type"] == "RGB2Gray" and not _is_gray(step):
                raise ValueError("RGB2Gray has out_channels that are no number, or weights that are no numbers")
        return steps

    @field_validator("preprocessor")
    @classmethod
    def _check_preprocessor(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        check_plain(arguments)
        if not isinstance(arguments.get("pad_val", 0), (int, float)):
            raise ValueError("pad_val is no number")
        padding = arguments.get("test_cfg") or {}
        size, divisor = (padding.get("size"), padding.get("size_divisor")) if isinstance(padding, dict) else (0, 0)
        is_size = size is None or (isinstance(size, (list, tuple)) and len(size) == 2 and all(map(_is_side, size)))
        if not is_size or not (divisor is None or _is_side(divisor)):
            raise ValueError(f"test_cfg has no size or size_divisor of 1 to {_MAX_SIDE} pixels")
        return arguments

    @model_validator(mode="after")
    def _check_windows(self) -> Testing:
        if self.mode == "slide" and not (self.crop_size and self.stride):
            raise ValueError("mode slide needs crop_size and stride")
        if not all(_is_side(side) for pair in (self.crop_size, self.stride) for side in pair or ()):
            raise ValueError(f"crop_size and stride must be 1 to {_MAX_SIDE}")
        sides = zip(self.crop_size or (), self.stride or ())
        if self.mode == "slide" and any(step > side for side, step in sides):
            raise ValueError("stride must not be larger than crop_size, or no window has some of the pixels")
        return self


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _MAX_SIDE


def _is_gray(step: Mapping[str, Any]) -> bool:
    channels, weights = step.get("out_channels"), step.get("weights", ())
    are_numbers = isinstance(weights, (list, tuple)) and all(isinstance(one, (int, float)) for one in weights)
    return are_numbers and (channels is None or _is_side(channels))


def check_plain(data: Any) -> None:
    """Raise ValueError unless `data` is None, truth values, numbers, names, and lists and dictionaries of these.

    Keys with a leading underscore, which mmengine obeys, are refused: for `_scope_: name` it imports `name.registry`.
    """
    for number, value in enumerate(_values(data)):
        if number >= _MAX_VALUES:
            raise ValueError(f"more than {_MAX_VALUES} values are too many")
        if isinstance(value, str):
            if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", value):
                raise ValueError(f"{value[:100]!r} is no plain name")
        elif isinstance(value, (int, float)):
            if not abs(value) <= _MAX_NUMBER:  # NaN fails this too
                raise ValueError(f"a number is larger than {_MAX_NUMBER:g}")
        elif value is not None:
            raise ValueError(f"{type(value).__name__} is no plain value")


def _values(data: Any, depth: int = 0) -> Iterator[Any]:
    """Each value, and each key; lists and dictionaries are entered."""
    if depth > 6:
        raise ValueError("nested too deeply")
    if isinstance(data, Mapping):
        for key, value in data.items():
            if str(key).startswith("_") or (key in OF_FILES and value is not None):
                raise ValueError(f"the key {str(key)[:100]!r} is not allowed")
        yield from data
        data = data.values()
    elif not isinstance(data, (list, tuple)):
        yield data
        return
    for inner in data:
        yield from _values(inner, depth + 1)
