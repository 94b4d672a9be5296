"""What a checkpoint's metadata say, as mmengine, mmcv or safetensors hold them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pspnet_convert.cards.metadata import Metadata
from pspnet_convert.errors import CheckpointError, printable
from pspnet_convert.pytorch.checkpoint_file import open_checkpoint
from pspnet_convert.pytorch.safe_unpickle import described, entries_of

_MAX_NAME = 500  # characters of a tensor's or class's name
_MAX_CLASSES = 1000  # a card has at most 255; a small file can name one class millions of times
_MAX_TEXT = 2**20  # characters of the config in the metadata
_TIME = re.compile(r"_\d{8}_\d{6}$")  # mmengine puts it after the config's name


def read_metadata(path: Path) -> Metadata:
    """The checkpoint's metadata; CheckpointError if the file is missing, or no checkpoint."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint", "Give the model's checkpoint with --checkpoint.")
    return metadata_of(open_checkpoint(path).values)


def metadata_of(values: Any) -> Metadata:
    """The metadata in what a checkpoint holds.

    mmcv's meta has CLASSES and PALETTE, mmengine's has dataset_meta, safetensors' header may have any of them.
    """
    meta = entries_of(entries_of(values).get("meta"))
    dataset = {**meta, **entries_of(meta.get("dataset_meta"))}
    return Metadata(
        classes=_class_names(meta.get("CLASSES", dataset.get("classes"))),
        palette=_palette(meta.get("PALETTE", dataset.get("palette"))),
        mmseg_version=_text(meta.get("mmseg_version")),
        config=_text(meta.get("config", meta.get("cfg"))),
        experiment=_experiment(meta),
    )


def is_name(value: Any) -> bool:
    """Whether a value can be printed as the name of a tensor or class."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= _MAX_NAME


def quoted(value: Any) -> str:
    """A dictionary's key that is no name, for a message."""
    if isinstance(value, str):
        return repr(value[:_MAX_NAME])
    return repr(value) if value is None or isinstance(value, (int, float)) else described(value)


def _class_names(classes: Any) -> list[str] | None:
    """The names, made printable, or `class <number>` where nothing is printable; None if they are not all texts, or too
    many."""
    if not _is_short_list(classes) or not all(isinstance(name, str) for name in classes):
        return None
    return [
        name if is_name(name) else printable(name[:_MAX_NAME]) or f"class {number}"
        for number, name in enumerate(classes)
    ]


def _palette(palette: Any) -> list[list[int]] | None:
    """The colours; None if they are not all three whole numbers, or too many."""
    is_palette = _is_short_list(palette) and all(
        isinstance(colour, (list, tuple)) and len(colour) == 3 and all(map(_is_short_number, colour))
        for colour in palette
    )
    return [list(colour) for colour in palette] if is_palette else None


def _is_short_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) <= _MAX_CLASSES


def _is_short_number(value: Any) -> bool:
    """Whether it is a whole number that can be printed; Python refuses those of more than 4300 digits."""
    return type(value) is int and value.bit_length() < 64


def _text(value: Any) -> str | None:
    """The value if it is a text of limited length; what UTF-8 cannot encode (lone surrogates) becomes `?`."""
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        return None
    return value.encode("utf-8", "replace").decode("utf-8")


def _experiment(meta: Mapping[Any, Any]) -> str | None:
    """mmcv's exp_name is the config's file name; mmengine's experiment_name is its stem, with the time."""
    name = _text(meta.get("exp_name", meta.get("experiment_name")))
    return _TIME.sub("", name.removesuffix(".py"))[:_MAX_NAME] or None if name else None
