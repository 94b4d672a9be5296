"""The options of `to-ir`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from pspnet_convert.options import Options, option
from pspnet_convert.workspace import PRECISIONS

Winograd = Literal["off", "auto", "all"]

if TYPE_CHECKING:
    from pspnet_convert.runtimes.input_form import InputForm


class MoArgument(click.ParamType):
    """`NAME=VALUE`, or `NAME` for a switch. From Python also a mapping, or a list of pairs."""

    name = "NAME[=VALUE]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str | bool]:
        if isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[1], (str, bool)):
            name, given = str(value[0]), value[1]
        elif isinstance(value, str):
            name, equals, text = value.lstrip("-").partition("=")
            given = text if equals else True
        else:
            self.fail(f"{value!r} is neither NAME=VALUE nor a pair of them", param, ctx)
        if not name:
            self.fail("has no name", param, ctx)
        return name, given


@dataclass(frozen=True)
class ToIrOptions(Options):
    """The form of the IR, and the front-end that makes it."""

    precision: tuple[Literal["FP32", "FP16"], ...] = option(
        PRECISIONS,
        group="IR",
        type=click.Choice(PRECISIONS),
        multiple=True,
        recorded="precisions",
        show_default="both",
        help="FP16 compresses the weights. Repeatable.",
    )
    input_type: Literal["f32", "u8", "u16"] = option(
        "f32",
        group="IR",
        type=click.Choice(["u8", "u16", "f32"]),
        recorded="input_type",
        help="What the IR takes: bytes, 16-bit numbers, or float32; the values are those of the image.",
    )
    input_layout: Literal["NCHW", "NHWC"] = option(
        "NCHW",
        group="IR",
        type=click.Choice(["NCHW", "NHWC"]),
        recorded="input_layout",
        help="NHWC: the channels last, as in an image file.",
    )
    front_end: str = option(
        "auto",
        group="IR",
        type=click.Choice(("auto", "mo", "ovc")),
        recorded="front_end",
        help="mo: Model Optimizer; ovc: OpenVINO's own converter; auto: mo where it is installed, else ovc.",
    )
    mo_arg: tuple[tuple[str, str | bool], ...] = option(
        (),
        group="IR",
        type=MoArgument(),
        multiple=True,
        recorded="mo_args",
        help="A further argument of Model Optimizer, by its Python name. Repeatable.",
    )

    winograd: Winograd = option(
        "off",
        group="IR",
        type=click.Choice(["off", "auto", "all"]),
        recorded="winograd",
        help="3x3 convolutions by Winograd's algorithm, for processors that compute in f32. auto: where it is faster.",
    )

    @property
    def form(self) -> InputForm:
        """How the IR takes its images."""
        from pspnet_convert.runtimes.input_form import InputForm

        return InputForm(self.input_type, self.input_layout)

    def as_record(self) -> dict[str, Any]:
        return {**super().as_record(), "mo_args": dict(self.mo_arg)}
