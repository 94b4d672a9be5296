"""From an mmengine config to the parts of a card: its input, its output, its classes, how its accuracy was taken.

Plain functions over the Config, for mmsegmentation's own and for a user's; which model it is, and where its checkpoint
lies, is their callers' business.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from pspnet_convert.cards.card import ClassLabel, Input, Output
from pspnet_convert.errors import CardError, first_line
from pspnet_convert.mmcv_ops import provide_mmcv_ops

if TYPE_CHECKING:
    from mmengine.config import Config

INPUT_NAME, OUTPUT_NAME = "input.1", "segmentation_map"
_WHOLE = 4  # times the short side: the scale of protocols.whole, mmsegmentation's (2048, 512)


def read_config(path: Path) -> Config:
    """The config with its bases; CardError if it cannot be read. A config is Python, and is run.

    Of one in mmengine's newer style, whose types are classes, a type is the class's name with that of its module.
    What its lines print goes to stderr: stdout is for the command's own answer.
    """
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")  # of missing optional packages, at import, and of pkg_resources
        provide_mmcv_ops()  # for what its custom_imports import
        from mmengine.config import Config

        try:
            return Config(Config.fromfile(str(path)).to_dict())
        except (Exception, SystemExit) as error:  # whatever the config's own lines raise
            raise CardError(f"{path}: cannot be read as a config: {first_line(error)}") from error


def input_of(config: Config) -> Input:
    """The image input: crop size as the shape, mean and scale by the data preprocessor.

    CardError where the config has no crop size, or what is no picture's.
    """
    model = config.get("model", {})
    preprocessor = model.get("data_preprocessor") or config.get("data_preprocessor") or {}
    height, width = _two(config.get("crop_size") or preprocessor.get("size"))
    # mmsegmentation reads pictures as BGR; either flag has them turned round.
    is_turned = preprocessor.get("bgr_to_rgb") or preprocessor.get("rgb_to_bgr")
    try:
        return Input(
            name=INPUT_NAME,
            shape=(1, 3, height, width),
            layout="NCHW",
            color_order="RGB" if is_turned else "BGR",
            mean=preprocessor.get("mean") or (0, 0, 0),
            scale=preprocessor.get("std") or (1, 1, 1),
            converted_color_order="BGR",
        )
    except ValidationError as error:
        raise CardError(f"config: its input is no picture: {error.errors()[0]['msg']}") from error


def output_of(card_input: Input, classes: int) -> Output:
    """The label map of images of the input's size."""
    shape = (1, 1, card_input.height, card_input.width)
    return Output(name=OUTPUT_NAME, shape=shape, layout="NCHW", values=(0, classes - 1))


def number_of_classes(config: Config) -> int:
    """How many the decode head tells apart; CardError where it does so by a threshold, or does not say."""
    head = config.get("model", {}).get("decode_head", {})
    classes = head.get("num_classes") if isinstance(head, dict) else None
    if type(classes) is not int or classes < 2:
        raise CardError(f"config: model.decode_head.num_classes is {classes!r}, not a number of classes")
    if head.get("out_channels") not in (None, classes):
        raise CardError(
            f"config: its {classes} classes come from {head.out_channels} channels by a threshold, not by argmax",
            "This tool converts heads with a channel for each class.",
        )
    return classes


def class_labels(names: Sequence[str], palette: Sequence[Sequence[int]], classes: int) -> list[ClassLabel]:
    """Names with their RGB colours, one for each of `classes`; CardError where there are more or fewer of either."""
    if len(names) != classes or len(palette) != classes:
        raise CardError(f"{len(names)} names and {len(palette)} colours do not fit the network's {classes} classes")
    try:
        return [ClassLabel(name=name, color=tuple(colour)) for name, colour in zip(names, palette)]
    except ValidationError as error:
        fault = error.errors()[0]
        raise CardError(f"a class's {fault['loc'][0]} is {fault['input']!r}: {fault['msg']}") from error


def dataset_labels(config: Config) -> list[ClassLabel]:
    """The classes of the dataset that the config trains on, as mmsegmentation's class of that dataset has them.

    CardError where it names none or several, one that mmsegmentation does not have, or one with other classes.
    """
    dataset = dataset_type(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing optional packages, at import
        provide_mmcv_ops()
        with redirect_stdout(sys.stderr):  # the fork's prints that it could not import OneDL
            import mmseg.datasets
    found = getattr(getattr(mmseg.datasets, dataset, None), "METAINFO", {})
    if not found.get("classes") or not found.get("palette"):
        raise CardError(f"config: mmsegmentation knows no classes of a dataset {dataset!r}")
    try:
        return class_labels(found["classes"], found["palette"], number_of_classes(config))
    except CardError as error:
        raise CardError(f"config: of {dataset}, {error.what}") from error


def dataset_type(config: Config) -> str:
    """The name of the dataset's class, which may lie in wrappers (RepeatDataset, ConcatDataset)."""
    types = sorted(set(_types(config.get("train_dataloader", {}).get("dataset", {}))))
    if len(types) != 1:
        raise CardError(f"config: trains on {', '.join(types) or 'no dataset'}, not on one dataset")
    return types[0]


def test_protocol(config: Config, card_input: Input) -> tuple[Literal["whole", "full_size", "slide"], str]:
    """How mmsegmentation takes its accuracy by this config, as a word for the card, and in words.

    `slide`: the mean of windows, which a converted model can only be one of. `whole` is protocols.whole, which holds
    for the test pipeline's scale (4 side, side) alone; whole images at any other scale are `full_size`.
    """
    scale = _test_scale(config)
    at = "" if scale is None else f" at scale {scale}"
    mode = config.model.get("test_cfg", {})
    if mode.get("mode") == "slide":
        windows, stride = ("x".join(map(str, _two(mode.get(key)))) for key in ("crop_size", "stride"))
        return "slide", f"images{at}, the mean of windows of {windows} with stride {stride}"
    side = min(card_input.height, card_input.width)
    is_ours = scale == (_WHOLE * side, side)
    return ("whole" if is_ours else "full_size"), f"whole images{at} with their aspect kept"


def _two(size: Any) -> tuple[int, int]:
    """Height and width, from both or from one for both."""
    both = (size, size) if type(size) is int else tuple(size or ())
    if len(both) != 2 or not all(type(side) is int for side in both):
        raise CardError(f"config: {size!r} is no size; crop_size says which images it is trained on")
    return both


def _types(dataset: Any) -> Iterator[str]:
    """The types of the datasets in `dataset`, which may be a list, or wrap another or several."""
    for one in dataset if isinstance(dataset, (list, tuple)) else [dataset]:
        wrapped = one.get("dataset") or one.get("datasets")
        if wrapped:
            yield from _types(wrapped)
        elif one.get("type"):
            yield str(one["type"])


def _test_scale(config: Config) -> tuple[int, int] | None:
    """Of the test pipeline's Resize; None where it has none."""
    loader = config.get("test_dataloader") or {}
    pipeline = loader.get("dataset", {}).get("pipeline", [])
    scales = (step.get("scale") for step in pipeline if step.get("type") == "Resize")
    return next((tuple(scale) for scale in scales if scale), None)
