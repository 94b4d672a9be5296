"""The options of `export-onnx`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import click

from pspnet_convert.forms import LABEL_TYPES, OUTPUTS, LabelType, Output
from pspnet_convert.image_shape import ImageShape
from pspnet_convert.options import Batch, Options, Shape, check_channels, option

if TYPE_CHECKING:
    from pspnet_convert.runtimes.output_form import OutputForm

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
    output: tuple[Output, ...] = option(
        ("labels",),
        group="Export",
        type=click.Choice(OUTPUTS),
        multiple=True,
        recorded="outputs",
        show_default="labels",
        help="What the model gives. logits and probabilities are float32, for each class. Repeatable.",
    )
    label_type: LabelType = option(
        "int64",
        group="Export",
        type=click.Choice(list(LABEL_TYPES)),
        recorded="label_type",
        help="The number type of the label map.",
    )
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
        in_order = tuple(output for output in OUTPUTS if output in self.output)
        return replace(self, input_shape=self.input_shape or (1, *shape[1:]), output=in_order)

    @property
    def shape(self) -> ImageShape:
        """[batch, channels, height, width]; the batch is DYNAMIC for any number of images."""
        assert self.input_shape is not None, "for_card gives it"
        return (self.batch, *self.input_shape[1:])

    @property
    def form(self) -> OutputForm:
        """What the ONNX gives."""
        from pspnet_convert.runtimes.output_form import OutputForm

        return OutputForm(self.output, self.label_type)

    def as_record(self) -> dict[str, Any]:
        """The manifest has the batch in `input_shape`."""
        return {**super().as_record(), "input_shape": list(self.shape)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        batch, *image = record.get("input_shape") or [1]
        given = super().from_record({**record, "input_shape": [1, *image]})
        return replace(given, batch=Batch().convert(batch, None, None))
