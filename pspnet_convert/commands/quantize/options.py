"""The options of `quantize`: one class for each of its stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from pspnet_convert.device import device_option
from pspnet_convert.options import FOLDER, NumberRange, Options, option
from pspnet_convert.processor import processor_option

OverflowFix = Literal["enable", "first_layer_only", "disable"]
Preset = Literal["performance", "mixed"]
DEFAULT_SUBSET = 300
# Labels change where the two best classes are close: at 0.1 % of the demo's pixels. Badly calibrated weights (ranges
# from other kinds of images, a layer that 8 bits do not suit) change whole regions.
MIN_AGREEMENT = 0.95


@dataclass(frozen=True)
class QuantizeOptions(Options):
    """The images that calibrate the INT8 IR."""

    calibration: Path | None = option(
        None,
        group="Calibration",
        type=click.Path(path_type=Path),
        show_default="the card's dataset, or the photographs that come with the tool",
        metavar="PATH",
        help="A folder of images like those that the model will see, with the folders in it; or a text file with the "
        "path of one a line, relative to the file.",
    )
    subset_size: int = option(
        DEFAULT_SUBSET,
        group="Calibration",
        type=click.IntRange(1),
        recorded="subset_size",
        help="The largest number of images to calibrate with.",
    )
    preset: Preset = option(
        "performance",
        group="Calibration",
        type=click.Choice(["performance", "mixed"]),
        recorded="preset",
        help="NNCF's. mixed: activations that can be negative are quantized asymmetrically, which is more accurate "
        "and can be slower.",
    )
    ignore_layer: tuple[str, ...] = option(
        (),
        group="Calibration",
        type=str,
        multiple=True,
        recorded="ignore_layer",
        metavar="PATTERN",
        help="Keep these layers of the FP32 IR in floating point. Their names begin with PATTERN: a text, or a regular "
        "expression. Repeatable.",
    )
    overflow_fix: OverflowFix = option(
        "enable",
        group="Calibration",
        type=click.Choice(["enable", "first_layer_only", "disable"]),
        recorded="overflow_fix",
        help="Where weights have 7 bits, so that no sum overflows on processors without VNNI. enable: in all layers.",
    )


@dataclass(frozen=True)
class VerifyInt8Options(Options):
    """How the INT8 IR is compared with the FP32 IR."""

    min_agreement: float = option(
        MIN_AGREEMENT,
        group="Verification",
        type=NumberRange(0, 1),
        recorded="min_agreement",
        help="The share of pixels where the INT8 IR must give the FP32 IR's label.",
    )
    device: str = device_option("Verification", "The device of OpenVINO's that the INT8 IR is compared on")
    processor: str | None = processor_option("Verification")


@dataclass(frozen=True)
class EvaluateInt8Options(Options):
    """The data set on which the mean IoU of both IRs is measured. With neither option it is not measured."""

    dataset: Path | None = option(
        None, group="Evaluation", type=FOLDER, help="Measure both IRs' mean IoU on this folder in Pascal VOC's layout."
    )
    max_drop: float | None = option(
        None,
        group="Evaluation",
        type=NumberRange(0, 100),
        help="The largest allowed loss of mIoU against FP32, in points, on --dataset or the card's. Where INT8 loses "
        "more, more accurate ways of quantizing are tried. If none is within it, the exit code is 16.",
    )
    time_limit: float | None = option(
        None,
        group="Evaluation",
        type=NumberRange(0),
        metavar="MINUTES",
        help="With --max-drop: begin no further try after so many minutes.",
    )
