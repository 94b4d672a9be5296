"""Read a card's input, output and classes from an mmengine config."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pspnet_convert.cards.card import AS_STORED, ClassLabel, Input, Output
from pspnet_convert.cards.config_data import NotDataError, parse_config
from pspnet_convert.cards.config_parts import datasets, input_channels, pipeline_of, preprocessor_of
from pspnet_convert.cards.normalisation import normalisation
from pspnet_convert.cards.old_config import modernise
from pspnet_convert.errors import CardError, CheckpointError, first_line
from pspnet_convert.mmcv_ops import provide_mmcv_ops

if TYPE_CHECKING:
    from mmengine.config import Config

INPUT_NAME, OUTPUT_NAME = "input.1", "segmentation_map"


def read_config(path: Path) -> Config:
    """Run a config, which is Python, with its bases, and return it. Raises CardError if it cannot be read.

    In mmengine's newer style a type is a class: it becomes the class's name with its module's. A config of 0.x gets
    the keys of 1.x (old_config.py). What the config prints goes to stderr, since stdout is for the command's result.
    """
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")  # of missing optional packages and pkg_resources
        provide_mmcv_ops()  # the config's custom_imports may need it
        from mmengine.config import Config

        try:
            config = Config(_parsed(path).to_dict(), filename=str(path))
            modernise(config)
        except (Exception, SystemExit) as error:  # the config may raise anything
            raise CardError(f"{path}: cannot be read as a config: {first_line(error)}") from error
        return config


def _parsed(path: Path) -> Config:
    from mmengine.config import Config

    try:
        return Config.fromfile(str(path))
    except RuntimeError as error:
        # mmengine takes a config that imports modules for one of its newer style, and then refuses the imports.
        try:
            return Config.fromfile(str(path), lazy_import=False)
        except Exception:
            raise error from None


def config_of_text(text: str | None, checkpoint: Path) -> Config:
    """The config in a checkpoint's metadata, read as data (config_data.py).

    Raises CheckpointError if there is none, or it is more than data.
    """
    advice = "Give the model's config with --config, or the MODEL that the checkpoint is of."
    if text is None:
        raise CheckpointError(f"{checkpoint}: has no config in its metadata, and none is given", advice)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing optional packages and pkg_resources
        from mmengine.config import Config

        try:
            # Without a text mmengine reads it from the file.
            config = Config(parse_config(text), cfg_text=text or "\n", filename=str(checkpoint))
            modernise(config)
        except NotDataError as error:
            raise CheckpointError(
                f"{checkpoint}: the config in its metadata cannot be read as data: {error}", advice
            ) from error
        except Exception as error:  # mmengine raises many kinds for what is no config
            raise CheckpointError(
                f"{checkpoint}: the text in its metadata is no config: {first_line(error)}", advice
            ) from error
        return config


def input_of(config: Config) -> Input:
    """The image input: the backbone's channels and the crop size as its shape; mean and scale from test pipeline and
    data preprocessor.

    Raises CardError if the config has no crop size, or values that an image input cannot have.
    """
    pipeline, preprocessor, channels = pipeline_of(config), preprocessor_of(config), input_channels(config)
    height, width = _height_and_width(config.get("crop_size") or preprocessor.get("size"))
    try:
        found = normalisation(pipeline, preprocessor, channels)
        return Input(
            name=INPUT_NAME,
            shape=(1, channels, height, width),
            layout="NCHW",
            color_order=found.color_order,
            mean=found.mean,
            scale=found.scale,
            converted_color_order="BGR" if channels == 3 else AS_STORED,
        )
    except (TypeError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else first_line(error)
        raise CardError(f"config: its input is not an image: {reason}") from error


def output_of(card_input: Input, classes: int) -> Output:
    """The label map, of the input's height and width."""
    shape = (1, 1, card_input.height, card_input.width)
    return Output(name=OUTPUT_NAME, shape=shape, layout="NCHW", values=(0, classes - 1))


def number_of_classes(config: Config) -> int:
    """The number of classes that the decode head separates: two for a binary head. CardError if it gives none."""
    head = config.get("model", {}).get("decode_head", {})
    classes = head.get("num_classes") if isinstance(head, dict) else None
    if type(classes) is not int or classes < 1:
        raise CardError(f"config: model.decode_head.num_classes is {classes!r}, not a number of classes")
    return max(2, classes)  # mmsegmentation gives a head of one class a threshold: its label map is 0 or 1


def class_labels(names: Sequence[str], palette: Sequence[Sequence[int]], classes: int) -> list[ClassLabel]:
    """Class names with their RGB colours. Raises CardError unless there are `classes` of each."""
    if len(names) != classes or len(palette) != classes:
        raise CardError(f"{len(names)} names and {len(palette)} colours do not fit the network's {classes} classes")
    try:
        return [ClassLabel(name=name, color=tuple(colour)) for name, colour in zip(names, palette)]
    except ValidationError as error:
        fault = error.errors()[0]
        raise CardError(f"a class's {fault['loc'][0]} is {fault['input']!r}: {fault['msg']}") from error


def background_of(classes: Sequence[ClassLabel]) -> str | None:
    """The name of the class that is called background; None if there is none."""
    return next((label.name for label in classes if label.name.casefold() == "background"), None)


def dataset_labels(config: Config) -> list[ClassLabel]:
    """The classes of the dataset that the config trains on, from mmsegmentation's class of that dataset.

    Raises CardError if the config trains on no dataset or several, if mmsegmentation does not have the dataset, or if
    its number of classes is not the network's.
    """
    dataset = dataset_type(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing optional packages
        provide_mmcv_ops()
        with redirect_stdout(sys.stderr):  # the fork's prints that it could not import OneDL
            import mmseg.datasets
    found = getattr(getattr(mmseg.datasets, dataset, None), "METAINFO", {})
    if not found.get("classes") or not found.get("palette"):
        raise CardError(f"config: mmsegmentation has no classes for the dataset {dataset!r}")
    try:
        return class_labels(found["classes"], found["palette"], number_of_classes(config))
    except CardError as error:
        raise CardError(f"config: {dataset}: {error.what}") from error


def dataset_type(config: Config) -> str:
    """The name of the dataset's class, which may be inside wrappers (RepeatDataset, ConcatDataset)."""
    types = sorted({str(one["type"]) for one in datasets(config.get("train_dataloader") or {})})
    if len(types) != 1:
        raise CardError(f"config: trains on {', '.join(types) or 'no dataset'}, not on one dataset")
    return types[0]


def _height_and_width(size: Any) -> tuple[int, int]:
    """Height and width, from a pair or from one number for both."""
    both = (size, size) if type(size) is int else tuple(size) if isinstance(size, (list, tuple)) else ()
    if len(both) != 2 or not all(type(side) is int for side in both):
        advice = "Set crop_size to the size of the training images."
        raise CardError(f"config: {repr(size)[:100]} is no height and width", advice)
    return both
