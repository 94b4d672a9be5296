"""The options of `segment`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from pspnet_convert.device import device_option
from pspnet_convert.job_options import Model
from pspnet_convert.options import FILE, Options, argument, option


@dataclass(frozen=True)
class SegmentOptions(Options):
    """Which images, and by which IR."""

    images: tuple[Path, ...] = argument((), type=FILE, multiple=True, required=True)
    model: str | None = option(
        None, group="Input", type=Model(), show_default="pspnet-pytorch", help="The model whose IR is used."
    )
    device: str = device_option("Input", "The device of OpenVINO's that runs the IR")
    precision: str = option(
        "FP32", group="Input", type=click.Choice(["FP32", "FP16", "INT8"]), help="The precision of that IR's weights."
    )
