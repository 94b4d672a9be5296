"""The options of `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from pspnet_convert.device import device_option
from pspnet_convert.options import FILE, FOLDER, NumberRange, Options, option
from pspnet_convert.processor import processor_option

LAYOUTS = ("card", "voc", "img_dir", "images", "cityscapes", "loveda")
IRS = ("FP32", "FP16", "INT8")
BACKENDS = ("PyTorch", "ONNX", *IRS)


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """Which images, by which protocol, and which of the workspace's models."""

    dataset: Path | None = option(
        None, group="Input", type=FOLDER, show_default="the card's", help="The root folder of a data set."
    )
    layout: str | None = option(
        None,
        group="Input",
        type=click.Choice(LAYOUTS),
        show_default="recognised",
        help="Where the files are below --dataset. card: as the model's card says, which is as mmsegmentation has it.",
    )
    split: str = option(
        "val",
        group="Input",
        help="Which part of the data set: ImageSets/Segmentation/SPLIT.txt, img_dir/SPLIT and so on.",
    )
    images: Path | None = option(
        None, group="Input", type=FOLDER, help="A folder of images, with --annotations in place of --dataset."
    )
    annotations: Path | None = option(
        None, group="Input", type=FOLDER, help="The annotations of --images, paired by name without suffix."
    )
    list_file: Path | None = option(
        None,
        group="Input",
        type=FILE,
        help="Only these: a name a line, or an image and its annotation a line.",
    )
    labels: str | None = option(
        None,
        group="Input",
        type=click.Choice(["index", "colour"]),
        recorded="labels",
        show_default="colour in RGB files, else index",
        help="How annotations give classes: by pixel value (a palette's index), or by the card's colours.",
    )
    zero_label: str | None = option(
        None,
        group="Input",
        type=click.Choice(["class", "ignored"]),
        recorded="zero_label",
        show_default="the card's",
        help="What 0 is in annotations. ignored: classes count from 1, as with mmsegmentation's reduce_zero_label.",
    )
    ignore_index: int | None = option(
        None,
        group="Input",
        type=click.IntRange(0, 255),
        recorded="ignore_index",
        show_default="the card's",
        help="Pixels of this number do not count; after --zero-label and --label-map.",
    )
    label_map: Path | None = option(
        None,
        group="Input",
        type=FILE,
        help="A YAML or JSON file, from values in annotations to class numbers or names, or to `ignored`.",
    )
    ignore_unknown: bool = option(
        False,
        group="Input",
        recorded="ignore_unknown",
        help="Go on where a value is neither a class nor ignored, and count such pixels.",
    )
    protocol: str | None = option(
        None,
        group="Evaluation",
        type=click.Choice(["crop", "pad", "mmseg"]),
        recorded="protocol",
        show_default="that of the card's first figure, else mmseg, else crop",
        help="How an image is prepared, and what is scored. crop, pad: Open Model Zoo's. mmseg: mmsegmentation's test.",
    )
    backend: tuple[str, ...] = option(
        (),
        group="Evaluation",
        type=click.Choice(BACKENDS, case_sensitive=False),
        multiple=True,
        show_default="all that are there",
        help="Evaluate this model. Repeatable.",
    )
    at_default_precision: bool = option(
        False,
        group="Evaluation",
        recorded="at_default_precision",
        help="Also evaluate each IR at the device's default precision.",
    )
    device: str = device_option("Evaluation", "The device of OpenVINO's that runs the IRs")
    processor: str | None = processor_option("Evaluation")
    limit: int | None = option(
        None, group="Input", type=click.IntRange(min=1), help="Use only the first N images of the list."
    )
    skip_bad: bool = option(
        False, group="Input", recorded="skip_bad", help="Leave out images that cannot be used, instead of stopping."
    )
    max_drop: float | None = option(
        None,
        group="Evaluation",
        type=NumberRange(0, 100),
        help="The largest allowed loss of mIoU, in points. A larger one ends with exit code 16.",
    )
    resume: bool = option(False, group="Evaluation", help="Go on with what an interrupted evaluation has counted.")
    ray: str | None = option(
        None,
        group="Evaluation",
        type=str,
        metavar="ADDRESS",
        help="Spread the work over this Ray cluster. local: one on this machine.",
    )
