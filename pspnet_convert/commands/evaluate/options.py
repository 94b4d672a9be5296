"""The options of `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from pspnet_convert.options import FOLDER, Options, option

BACKENDS = ("PyTorch", "ONNX", "FP32", "FP16", "INT8")


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """Which images, by which protocol, and which of the workspace's models."""

    dataset: Path | None = option(
        None, group="Input", type=FOLDER, show_default="the card's", help="A folder in Pascal VOC's layout."
    )
    split: str = option("val", group="Input", help="The list of images: ImageSets/Segmentation/SPLIT.txt.")
    protocol: str | None = option(
        None,
        group="Evaluation",
        type=click.Choice(["crop", "pad", "whole"]),
        recorded="protocol",
        show_default="that of the card's first figure taken by one of these, else crop",
        help="How an image is brought to the model's size, and what is scored.",
    )
    backend: tuple[str, ...] = option(
        (),
        group="Evaluation",
        type=click.Choice(BACKENDS, case_sensitive=False),
        multiple=True,
        show_default="all that are there",
        help="Evaluate this model. Repeatable.",
    )
    limit: int | None = option(
        None, group="Input", type=click.IntRange(min=1), help="Use only the first N images of the list."
    )
    skip_bad: bool = option(
        False, group="Input", recorded="skip_bad", help="Leave out images that cannot be used, instead of stopping."
    )
    max_drop: float | None = option(
        None,
        group="Evaluation",
        type=click.FloatRange(0, 100),
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
