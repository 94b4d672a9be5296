"""A card's annotations, its test by mmsegmentation, and what the IR takes, each in one line for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pspnet_convert.cards.annotations import IGNORED, Annotations
from pspnet_convert.cards.card import Input
from pspnet_convert.cards.testing import Testing

_NOT_SHOWN = ("LoadAnnotations", "LoadImageFromFile", "Normalize", "PackSegInputs")


def annotations_text(annotations: Annotations) -> str:
    """The data set, what its numbers mean, and where its files are."""
    return f"{annotations.dataset or 'any data set'}: {label_meaning(annotations)}; {_files(annotations)}"


def label_meaning(annotations: Annotations) -> str:
    """What the numbers in annotations mean."""
    parts = ["classes count from 0"]
    if annotations.reduce_zero_label:
        zero = "ignored" if annotations.ignore_index == IGNORED else f"read as {IGNORED}"
        parts = [f"0 is {zero}, classes count from 1"]
    if annotations.label_map is not None:
        parts.append(f"{len(annotations.label_map)} numbers are renumbered")
    ignored = annotations.ignore_index
    return "; ".join([*parts, f"{'' if ignored == IGNORED else 'class '}{ignored} is ignored"])


def _files(annotations: Annotations) -> str:
    folders = (annotations.image_folder, annotations.annotation_folder)
    suffixes = (annotations.image_suffix, annotations.annotation_suffix)
    image, annotation = ("/".join(filter(None, (folder, f"*{suffix}"))) for folder, suffix in zip(folders, suffixes))
    listed = f", list: {annotations.list_file}" if annotations.list_file else ""
    return f"img: {image}, ann: {annotation}{listed}"


def ir_input_text(card_input: Input) -> str:
    """The channels and values of the images that the IR takes."""
    if not card_input.is_color:
        return "channels and values as stored"
    values = "0..255" if card_input.is_plain_color else "values as stored"
    return f"{card_input.converted_color_order}, {values}"


def testing_text(testing: Testing) -> str:
    """How an image is brought to the network, in which parts, and the metrics."""
    steps = [_step(step) for step in testing.pipeline if step["type"] not in _NOT_SHOWN]
    parts = [*steps, *_padding(testing.preprocessor.get("test_cfg") or {}), "whole image"]
    if testing.crop_size and testing.stride and testing.mode == "slide":
        parts[-1] = f"windows of {_times(testing.crop_size)} (height x width) every {_times(testing.stride)} pixels"
    return f"{', '.join(parts)}; {', '.join(testing.metrics)}"


def _step(step: Mapping[str, Any]) -> str:
    if step["type"] == "Resize" and step.get("scale"):
        return f"scale {_times(step['scale'])}{' with aspect kept' if step.get('keep_ratio') else ''}"
    return str(step["type"])


def _padding(test_cfg: Mapping[str, Any]) -> Iterator[str]:
    if test_cfg.get("size"):
        yield f"padded to {_times(test_cfg['size'])} (height x width)"
    elif test_cfg.get("size_divisor"):
        yield f"padded to multiples of {test_cfg['size_divisor']}"


def _times(size: Any) -> str:
    return "x".join(map(str, size)) if isinstance(size, (list, tuple)) else str(size)
