"""The model card: the schema of `model.yml`, checked when it is read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from pspnet_convert.cards.annotations import Annotations
from pspnet_convert.cards.card_model import FILE_NAME, CardModel, Label, Text
from pspnet_convert.cards.card_yaml import read_yaml
from pspnet_convert.cards.inline_network import check_network
from pspnet_convert.cards.testing import Testing
from pspnet_convert.errors import CardError, count
from pspnet_convert.forms import KEY_PREFIX, MAX_CLASSES, MODEL_NAME, Colour
from pspnet_convert.image_shape import MAX_CHANNELS, MAX_SIDE

if TYPE_CHECKING:
    from pspnet_convert.cards.own_network import OwnNetwork

# Model Optimizer reads brackets, commas, arrows and colons in a name as its own syntax.
_TENSOR_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$"
_MAX_FAULT = 500  # characters of an error
AS_STORED = "as stored"
Some = TypeVar("Some")
_LARGEST_RATIO = 2.5  # of mean to scale: of ImageNet's it is 2.1, and FP16 rounds 1/scale by 0.05 % of it
_DARKEST = 8  # of 0..255; a picture has brighter pixels
_LARGEST_VALUE = 1e12  # of a mean or a scale; a scale's smallest is its reciprocal
_LARGEST_BYTE = 255
# Large enough for any PSPNet, and too small to ask for a network of many gigabytes in one line.
_MAX_OVERRIDE, _MAX_OVERRIDES = 16384, 100


class CheckpointFile(CardModel):
    """The checkpoint: its digests (lower-case hex), its size in bytes, and its sources, best first.

    If it is not `pinned`, size and SHA-256 are unknown, and only `digest_prefix` is known: the first eight digits of
    the SHA-256, which end the names of mmsegmentation's checkpoints.

    `weights`: which of several sets of weights in the file; `prefix`: what the network's keys begin with there. Both
    are found where they are not given.
    """

    name: str = Field(pattern=FILE_NAME, max_length=200)
    size: int | None = Field(default=None, gt=0, lt=2**40)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    digest_prefix: str | None = Field(default=None, pattern=r"^[0-9a-f]{8}$")
    sha384: str | None = Field(default=None, pattern=r"^[0-9a-f]{96}$")
    sources: list[Text] = Field(min_length=1, max_length=20)
    weights: Label | None = None
    prefix: str | None = Field(default=None, pattern=KEY_PREFIX, max_length=200)

    @field_validator("sources")
    @classmethod
    def _check_sources(cls, sources: list[str]) -> list[str]:
        for source in sources:
            is_url = re.fullmatch(r"https?://[^\s/]+/\S+", source)
            is_file_name = re.fullmatch(FILE_NAME, source) and len(source) <= 200
            if not is_url and not is_file_name:
                raise ValueError(f"{source!r} is neither an http(s) URL nor the name of a file in the card's folder")
        return sources

    @model_validator(mode="after")
    def _check_identity(self) -> CheckpointFile:
        if (self.size is None) != (self.sha256 is None):
            raise ValueError("size and sha256 go together: one is missing")
        if self.sha256 is None and self.digest_prefix is None:
            raise ValueError("needs size and sha256, or digest_prefix")
        if self.sha256 is not None and not self.sha256.startswith(self.digest_prefix or ""):
            raise ValueError(f"sha256 {self.sha256} does not begin with the digest_prefix {self.digest_prefix}")
        return self

    @property
    def pinned(self) -> bool:
        """Whether the whole SHA-256 is known."""
        return self.sha256 is not None

    @property
    def digest(self) -> str:
        """The SHA-256, or its first digits if no more is known."""
        return self.sha256 or self.digest_prefix or ""

    def accepts(self, sha256: str) -> bool:
        """Whether a file of this SHA-256 (lower-case hex) may be the checkpoint."""
        return sha256.startswith(self.digest)


class Input(CardModel):
    """The image input of the PyTorch and ONNX models: `(value - mean) / scale`, channels as `color_order`.

    `shape` is [1, C, H, W]; mean and scale have a number for each channel. Images of three channels are RGB or BGR. The
    channels of all others stay in the order in which they are stored; nothing reverses them.
    """

    name: str = Field(pattern=_TENSOR_NAME, max_length=100)
    shape: tuple[int, int, int, int]
    layout: Literal["NCHW"]
    color_order: Literal["RGB", "BGR", "as stored"]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    converted_color_order: Literal["BGR", "as stored"]

    @field_validator("shape")
    @classmethod
    def _check_shape(cls, shape: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        batch, channels, *sides = shape
        if batch != 1 or not 1 <= channels <= MAX_CHANNELS or not all(8 <= side <= MAX_SIDE for side in sides):
            limits = f"1 to {MAX_CHANNELS} channels and sides of 8 to {MAX_SIDE}"
            raise ValueError(f"must be [1, channels, height, width] with {limits}, is {list(shape)}")
        return shape

    @field_validator("mean")
    @classmethod
    def _check_mean(cls, mean: tuple[float, ...]) -> tuple[float, ...]:
        if not all(abs(value) <= _LARGEST_VALUE for value in mean):
            raise ValueError("each value must be between -1e12 and 1e12")
        return mean

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, scale: tuple[float, ...]) -> tuple[float, ...]:
        if not all(1 / _LARGEST_VALUE <= value <= _LARGEST_VALUE for value in scale):
            raise ValueError("each value must be between 1e-12 and 1e12")
        return scale

    @model_validator(mode="after")
    def _check_channels(self) -> Input:
        for name, values in (("mean", self.mean), ("scale", self.scale)):
            if len(values) != self.channels:
                raise ValueError(f"{name} has {count(len(values), 'value')}, shape {count(self.channels, 'channel')}")
        for name, order in (("color_order", self.color_order), ("converted_color_order", self.converted_color_order)):
            if (order == AS_STORED) != (self.channels != 3):
                expected = (
                    "RGB or BGR for three channels" if self.channels == 3 else f"{AS_STORED!r} unless there are 3"
                )
                raise ValueError(f"{name} is {order!r} with {count(self.channels, 'channel')}; it must be {expected}")
        return self

    @property
    def channels(self) -> int:
        return self.shape[1]

    @property
    def is_color(self) -> bool:
        """Whether the channels are red, green and blue, or their reverse."""
        return self.color_order != AS_STORED

    @property
    def is_normalised(self) -> bool:
        """Whether mean and scale change anything."""
        return set(zip(self.mean, self.scale)) != {(0, 1)}

    def in_ir_order(self, by_channel: Sequence[Some]) -> Sequence[Some]:
        """What is known for each channel of the card, in the order in which an IR takes them: colours as BGR."""
        return by_channel[::-1] if self.color_order == "RGB" else by_channel

    @property
    def is_plain_color(self) -> bool:
        """Whether images are ordinary pictures: three colours of 0..255."""
        values = list(zip(self.mean, self.scale))
        in_bytes = all(0 <= mean <= _LARGEST_BYTE and scale <= 256 for mean, scale in values)
        # Two deviations above the mean are less than 2 for images of 0..1.
        is_bright = max(mean + 2 * scale for mean, scale in values) > _DARKEST
        return self.is_color and in_bytes and (is_bright or not self.is_normalised)

    @property
    def needs_float32(self) -> bool:
        """Whether FP16 would round mean and scale too coarsely: it has 11 bits, and values of 6e-5 to 65504.

        An IR subtracts the mean and divides, or multiplies by 1/scale and subtracts mean/scale.
        """
        ratio = max(abs(mean) / scale for mean, scale in zip(self.mean, self.scale))
        return ratio > _LARGEST_RATIO or not all(1e-4 <= scale <= 1e4 for scale in self.scale)

    @property
    def height(self) -> int:
        return self.shape[2]

    @property
    def width(self) -> int:
        return self.shape[3]


class Output(CardModel):
    """The label map: integers from `values[0]` to `values[1]`, both included."""

    name: str = Field(pattern=_TENSOR_NAME, max_length=100)
    shape: tuple[int, int, int, int]
    layout: Literal["NCHW"]
    values: tuple[int, int]


class ClassLabel(CardModel):
    name: Label
    color: Colour

    @field_validator("color")
    @classmethod
    def _check_color(cls, color: Colour) -> Colour:
        if not all(0 <= value <= 255 for value in color):
            raise ValueError("each value must be 0 to 255")
        return color


class Accuracy(CardModel):
    """A published figure in per cent, and the protocol of `evaluate` that it was measured by."""

    metric: Literal["mean_iou", "mean_dice"]
    value: float = Field(ge=0, le=100)
    dataset: Text
    protocol: Literal["crop", "pad", "mmseg"]
    measured_by: Text
    description: Text | None = None

    @field_validator("protocol", mode="before")
    @classmethod
    def _check_protocol(cls, protocol: Any) -> Any:
        if protocol == "whole":
            raise ValueError("'whole' is part of 'mmseg' now: write that if the figure is mmsegmentation's")
        return protocol


NOT_STATED = "not stated"  # a licence's name if nobody has given one


class License(CardModel):
    name: Text
    file: str | None = Field(default=None, pattern=FILE_NAME, max_length=200)
    url: Text | None = None


class ModelCard(CardModel):
    """One `model.yml`, read from `path`. Local sources and the dataset are in its folder, `folder`."""

    name: str = Field(pattern=MODEL_NAME, max_length=100)
    description: Text
    task_type: Literal["semantic_segmentation"]
    framework: Literal["pytorch"]
    references: list[Text] = Field([])
    files: list[CheckpointFile] = Field(min_length=1, max_length=1)
    # The network: the name of an mmsegmentation config, or a config's `model` section as plain data.
    config: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][\w.+/-]*\.py$", max_length=200)
    network: dict[str, Any] | None = None
    # Neither, where the network has classes of the user's own: the SHA-256 of the config's `model` section and of the
    # files with these classes.
    needs_config: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    # Numbers only: a string could name a class for the registry to build.
    config_overrides: dict[str, bool | int | float | list[int | float]] = Field({})
    input: Input
    output: Output
    classes: list[ClassLabel] = Field(min_length=2, max_length=MAX_CLASSES)
    # The name of the class that is all that none of the others is, and is not painted over a picture.
    background: Label | None = None
    annotations: Annotations = Annotations()
    testing: Testing | None = None
    gflops: float | None = Field(default=None, gt=0)
    mparams: float | None = Field(default=None, gt=0)
    accuracy: list[Accuracy] = Field([])
    dataset: str | None = Field(default=None, pattern=FILE_NAME, max_length=200)
    license: License

    _path: Path = PrivateAttr(default=Path())
    _own_network: OwnNetwork | None = PrivateAttr(default=None)

    @field_validator("config")
    @classmethod
    def _check_config(cls, config: str | None) -> str | None:
        if ".." in (config or "").split("/"):
            raise ValueError("must stay inside mmsegmentation's configs")
        return config

    @field_validator("network")
    @classmethod
    def _check_network(cls, network: dict[str, Any] | None) -> dict[str, Any] | None:
        if network is not None:
            check_network(network)
        return network

    @field_validator("config_overrides")
    @classmethod
    def _check_overrides(cls, overrides: dict[str, Any]) -> dict[str, Any]:
        if len(overrides) > _MAX_OVERRIDES:
            raise ValueError(f"{len(overrides)} are too many (at most {_MAX_OVERRIDES})")
        for key, value in overrides.items():
            numbers = value if isinstance(value, list) else [value]
            if not re.fullmatch(r"[A-Za-z_][\w.]*", key) or len(key) > 100:
                raise ValueError(f"{key[:100]!r} is no key of a config")
            if len(numbers) > _MAX_OVERRIDES or any(abs(number) > _MAX_OVERRIDE for number in numbers):
                raise ValueError(f"{key}: too large (numbers up to {_MAX_OVERRIDE}, lists up to {_MAX_OVERRIDES})")
        return overrides

    @model_validator(mode="after")
    def _check_consistency(self) -> ModelCard:
        if sum(one is not None for one in (self.config, self.network, self.needs_config)) != 1:
            raise ValueError("needs exactly one of config, network and needs_config")
        if self.config is None and self.config_overrides:
            raise ValueError("config_overrides change a config, not a network")
        if self.output.shape != (1, 1, self.input.height, self.input.width):
            raise ValueError(f"output.shape {list(self.output.shape)} does not fit the input's height and width")
        if self.output.values != (0, len(self.classes) - 1):
            raise ValueError(f"output.values {list(self.output.values)} does not fit {len(self.classes)} classes")
        if self.input.name == self.output.name:
            raise ValueError("input and output have the same name")
        names = [label.name for label in self.classes]
        if len(set(names)) != len(names):
            raise ValueError("two classes have the same name")
        if self.background is not None and self.background not in names:
            raise ValueError(f"background: there is no class named {self.background!r}")
        return self

    @property
    def mmseg_test(self) -> Testing | None:
        """`testing`, if it says how images are prepared."""
        return self.testing if self.testing is not None and self.testing.pipeline else None

    @property
    def path(self) -> Path:
        return self._path

    @property
    def folder(self) -> Path:
        return self._path.parent

    @property
    def own_network(self) -> OwnNetwork | None:
        """The network of a card that needs its config, if the user gave that config."""
        return self._own_network

    def built_from(self, own: OwnNetwork) -> ModelCard:
        """A copy of the card with the network of the user's config."""
        card = self.model_copy()
        card._own_network = own
        return card

    @property
    def checkpoint(self) -> CheckpointFile:
        return self.files[0]

    def at(self, path: Path) -> ModelCard:
        """A copy of the card with this `path`."""
        card = self.model_copy()
        card._path = path
        return card

    def choosing(self, weights: str | None, prefix: str | None) -> ModelCard:
        """A copy of the card with this choice of weights, where there is one."""
        chosen = {name: value for name, value in (("weights", weights), ("prefix", prefix)) if value is not None}
        return self.model_copy(update={"files": [self.checkpoint.model_copy(update=chosen)]}) if chosen else self

    @property
    def class_names(self) -> list[str]:
        return [label.name for label in self.classes]

    @property
    def background_number(self) -> int | None:
        """The number of the class that stays unpainted over a picture, if there is one."""
        return None if self.background is None else self.class_names.index(self.background)

    @property
    def palette(self) -> list[Colour]:
        """RGB, 0..255, one a class."""
        return [label.color for label in self.classes]


def load_card(path: Path) -> ModelCard:
    """Read and check a `model.yml`; raises CardError with one line that names the place and the fault."""
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise CardError(f"{path}: a card is a mapping of keys to values, this is {type(data).__name__}")
    try:
        card = ModelCard.model_validate(data)
    except ValidationError as error:
        raise CardError(f"{path}: {explain(error)}", "Compare with the model.yml that comes with the tool.") from error
    return card.at(path)


def explain(error: ValidationError) -> str:
    """The first fault in words, and the number of the others."""
    faults = error.errors()
    # An unknown key is usually a misspelt one, and explains why another is "missing": report it first.
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    place = ".".join(str(part) for part in first["loc"]) or "card"
    if first["type"] == "extra_forbidden":
        missing = [
            str(fault["loc"][-1])
            for fault in faults
            if fault["type"] == "missing" and fault["loc"][:-1] == first["loc"][:-1]
        ]
        guess = difflib.get_close_matches(str(first["loc"][-1]), missing or list(ModelCard.model_fields), n=1)
        text = f"unknown key {place[:_MAX_FAULT]!r}" + (f", did you mean {guess[0]!r}?" if guess else "")
    else:
        text = f"{place}: {first['msg']}"[:_MAX_FAULT]
    more = len(faults) - 1
    return text + (f" (and {more} more)" if more else "")
