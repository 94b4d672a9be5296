"""The options of `verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from pspnet_convert.device import device_option
from pspnet_convert.image_shape import ImageShape
from pspnet_convert.options import FILE, FOLDER, Batch, Options, Shape, option, timeout_option
from pspnet_convert.processor import processor_option


@dataclass(frozen=True)
class VerifyOptions(Options):
    """What the converted models are compared on, and how."""

    images: tuple[Path, ...] = option(
        (), group="Verification", type=FILE, multiple=True, help="Verify on this image as well. Repeatable."
    )
    at_default_precision: bool = option(
        False,
        group="Verification",
        recorded="at_default_precision",
        help="Also report results at the device's default precision.",
    )
    device: str = device_option("Verification", "Also verify each IR on this device of OpenVINO's")
    processor: str | None = processor_option("Verification")
    timeout: int = timeout_option("The longest that a model may take to load, or for one batch of images.")
    locate: bool = option(
        False,
        group="Verification",
        recorded="locate",
        help="Name the first wrong layer of a model, and save it as a small one, even where the cause is known.",
    )


@dataclass(frozen=True)
class ForeignModelOptions(Options):
    """Models from elsewhere that are verified in place of the workspace's; and what they take, the card's form by
    default."""

    onnx: tuple[Path, ...] = option(
        (), group="Input", type=FILE, multiple=True, help="Compare this ONNX from elsewhere. Repeatable."
    )
    ir: tuple[Path, ...] = option(
        (), group="Input", type=FILE, multiple=True, help="Compare this IR (.xml) from elsewhere. Repeatable."
    )
    input_shape: ImageShape | None = option(
        None, group="Input", type=Shape(), show_default="the card's", help="The shape of one image that they take."
    )
    batch: int | None = option(
        None,
        group="Input",
        type=Batch(),
        show_default="1",
        help="Images that they take at a time. dynamic: any number.",
    )
    input_type: Literal["f32", "u8", "u16"] | None = option(
        None,
        group="Input",
        type=click.Choice(["u8", "u16", "f32"]),
        show_default="f32",
        help="The number type of the IRs' input.",
    )
    input_layout: Literal["NCHW", "NHWC"] | None = option(
        None, group="Input", type=click.Choice(["NCHW", "NHWC"]), show_default="NCHW", help="The order of its axes."
    )


@dataclass(frozen=True)
class ReportingOptions(Options):
    """Files that are written about a verification."""

    save_diff: Path | None = option(
        None,
        group="Output",
        type=FOLDER,
        metavar="DIR",
        help="Save images of the pixels that differ, side by side.",
    )
    junit: Path | None = option(
        None, group="Output", type=FILE, metavar="FILE", help="Write the verification as JUnit XML, for CI."
    )
