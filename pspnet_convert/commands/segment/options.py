"""The options of `segment`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from pspnet_convert.device import device_option
from pspnet_convert.job_options import Model
from pspnet_convert.options import NumberRange, Options, argument, option


@dataclass(frozen=True)
class SegmentOptions(Options):
    """Which images, by which IR, and how they are painted."""

    images: tuple[Path, ...] = argument((), type=click.Path(path_type=Path), multiple=True, required=True)
    model: str | None = option(
        None, group="Input", type=Model(), show_default="pspnet-pytorch", help="The model whose IR is used."
    )
    device: str = device_option("Input", "The device of OpenVINO's that runs the IR")
    precision: str = option(
        "FP32", group="Input", type=click.Choice(["FP32", "FP16", "INT8"]), help="The precision of that IR's weights."
    )
    slide: bool = option(
        False,
        group="Input",
        help="Take an image of any size at its full resolution, through windows of the model's size.",
    )
    overlap: int | None = option(
        None,
        group="Input",
        type=click.IntRange(min=0),
        metavar="PIXELS",
        show_default="a quarter of the shorter side",
        help="With --slide: how far windows overlap at least.",
    )
    every: int = option(
        1, group="Input", type=click.IntRange(min=1), metavar="N", help="Of a video, take every N-th frame."
    )
    opacity: float = option(
        0.7,
        group="Output",
        type=NumberRange(0, 1),
        metavar="SHARE",
        help="How much of a class's colour covers the picture: 0 to 1.",
    )
    labels_only: bool = option(False, group="Output", help="Write label maps only, no overlays.")
