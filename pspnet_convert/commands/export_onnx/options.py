"""The options of `export-onnx`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from pspnet_convert.image_shape import ImageShape
from pspnet_convert.options import Batch, Options, Shape, check_channels, option

# What torch's exporter writes natively, and ONNX Runtime and both front-ends read; the tests try each.
OPSETS = range(18, 24)
DEFAULT_OPSET = OPSETS[0]


@dataclass(frozen=True)
class ExportOptions(Options):
    """The form of the ONNX. `input_shape` is [1, channels, height, width], the card's where it is None."""

    input_shape: ImageShape | None = option(
        None,
        group="Export",
        type=Shape(),
        recorded="input_shape",
        show_default="the card's",
        help="The shape of one image.",
    )
    batch: int = option(1, group="Export", type=Batch(), help="Images at a time. dynamic: any number.")
    opset: int = option(
        DEFAULT_OPSET, group="Export", type=int, recorded="opset", help=f"ONNX opset, {OPSETS[0]} to {OPSETS[-1]}."
    )
    int32: bool = option(False, group="Export", recorded="int32", help="A label map of int32 instead of int64.")
    fold_pyramid: bool = option(
        True,
        "--fold-pyramid/--no-fold-pyramid",
        group="Export",
        recorded="fold_pyramid",
        help="Export the pyramid head folded (faster, the same logits), or as mmsegmentation writes it.",
    )

    def __post_init__(self) -> None:
        if self.input_shape is not None and self.input_shape[0] != 1:
            raise ValueError(f"input_shape is of one image, not {self.input_shape}: `batch` says how many there are")

    def for_card(self, shape: ImageShape) -> Self:
        """These options with the card's `shape` where none was given; OptionError for another number of channels."""
        if self.input_shape is not None:
            check_channels(self.input_shape, shape)
        return self if self.input_shape else replace(self, input_shape=(1, *shape[1:]))

    @property
    def shape(self) -> ImageShape:
        """[batch, channels, height, width]; the batch is DYNAMIC for any number of images."""
        assert self.input_shape is not None, "for_card gives it"
        return (self.batch, *self.input_shape[1:])

    def as_record(self) -> dict[str, Any]:
        """The manifest has the batch in `input_shape`."""
        return {**super().as_record(), "input_shape": list(self.shape)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        batch, *image = record.get("input_shape") or [1]
        given = super().from_record({**record, "input_shape": [1, *image]})
        return replace(given, batch=Batch().convert(batch, None, None))
