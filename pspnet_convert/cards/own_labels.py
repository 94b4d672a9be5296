"""The classes of a user's own model: as the user names them, or the checkpoint, or the config."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards import config_card
from pspnet_convert.cards.card import ClassLabel
from pspnet_convert.cards.config_parts import datasets, tested_datasets
from pspnet_convert.cards.metadata import Metadata
from pspnet_convert.errors import CardError, CheckpointError, ConvertError, OptionError, count

if TYPE_CHECKING:
    from mmengine.config import Config

Names = Sequence[str]
Palette = Sequence[Sequence[int]]
_ADVICE = "Name the classes with --classes, and their colours with --palette."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labels:
    """Class names and RGB colours, as far as they are known."""

    classes: Names | None = None
    palette: Palette | None = None


def labels_of(config: Config, metadata: Metadata, given: Labels, number: int, checkpoint: str) -> list[ClassLabel]:
    """Names and colours for `number` classes. `given`, by the user, counts first; then the checkpoint's, the config's.

    `checkpoint` is the file, for messages. Raises OptionError if the user names another number, CheckpointError if the
    checkpoint does, CardError if the config does, or if what is found does not fit a card.
    """
    known, stated = Labels(metadata.classes, metadata.palette), stated_labels(config)
    if number == 2:
        given, known, stated = map(_with_background, (given, known, stated))
    names, named_in = _names(known, given, stated, number, checkpoint)
    palette, coloured_in = _palette(known, given, stated, number, checkpoint)
    repeated = next((name for name, times in Counter(names).items() if times > 1), None)
    if repeated is not None:
        raise named_in.error(f"{named_in.place}: has two classes named {repeated!r}", _ADVICE)
    _fitting(names, voc_palette(number), named_in)
    return _fitting(names, palette, coloured_in)


@dataclass(frozen=True)
class _Source:
    """Where names or colours are from, and the error if they do not fit a card."""

    place: str
    error: type[ConvertError]


_OF_CONFIG = _Source("config: metainfo", CardError)


def _fitting(names: Names, palette: Palette, source: _Source) -> list[ClassLabel]:
    """The labels; the error of `source` if they do not fit a card."""
    try:
        return config_card.class_labels(names, palette, len(names))
    except CardError as error:
        raise source.error(f"{source.place}: {error.what}", _ADVICE) from error


def _with_background(labels: Labels) -> Labels:
    """Of a head of one class: 0 is all that is not this class, in a colour of its own."""
    names, palette = labels.classes, labels.palette
    return Labels(
        ["background", *names] if names and len(names) == 1 else names,
        [[0, 0, 0], *palette] if palette and len(palette) == 1 else palette,
    )


def stated_labels(config: Config) -> Labels:
    """The `metainfo` of the config's data sets: of the first that is tested and has names, or else trained on."""
    found = [*tested_datasets(config), *datasets(config.get("train_dataloader") or {}), *_trained_in_0x(config)]
    stated = [one for one in map(_metainfo, found) if one.classes]
    return stated[0] if stated else Labels()


def _trained_in_0x(config: Config) -> list[Mapping[str, Any]]:
    data = config.get("data")
    trained = list(datasets(data.get("train") or {})) if isinstance(data, Mapping) else []
    return [{"metainfo": {key: one.get(key) for key in ("classes", "palette")}} for one in trained]


def _metainfo(dataset: Mapping[str, Any]) -> Labels:
    """A data set's names and colours; a name of a file is no list of names."""
    info = dataset.get("metainfo")
    info = info if isinstance(info, Mapping) else {}
    names, palette = info.get("classes"), info.get("palette")
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        return Labels()
    is_palette = isinstance(palette, (list, tuple)) and all(isinstance(one, (list, tuple)) for one in palette)
    return Labels(list(names), [list(colour) for colour in palette] if is_palette and palette else None)


def _names(known: Labels, given: Labels, stated: Labels, number: int, checkpoint: str) -> tuple[Names, _Source]:
    of_checkpoint = _Source(checkpoint, CheckpointError)
    advice = f"Name the {number} classes with --classes A,B,..., or with a file that has one a line."
    if given.classes is not None:
        if len(given.classes) != number:
            named = count(len(given.classes), "class", "classes")
            raise OptionError(f"--classes names {named}, the network has {number}", advice)
        return given.classes, _Source("--classes", OptionError)
    if known.classes:
        if len(known.classes) != number:
            raise CheckpointError(
                f"{checkpoint}: was trained for {count(len(known.classes), 'class', 'classes')}, "
                f"the config has {number}",
                f"Give the checkpoint that was trained with this config. Or, if its metadata are wrong: {advice}",
            )
        return known.classes, of_checkpoint
    if stated.classes:
        if len(stated.classes) != number:
            named = count(len(stated.classes), "class", "classes")
            raise CardError(f"config: metainfo names {named}, the network has {number}", advice)
        return stated.classes, _OF_CONFIG
    log.warning("%s: does not name its classes; numbering them. --classes names them", checkpoint)
    return [f"class {one}" for one in range(number)], of_checkpoint


def _palette(known: Labels, given: Labels, stated: Labels, number: int, checkpoint: str) -> tuple[Palette, _Source]:
    of_checkpoint = _Source(checkpoint, CheckpointError)
    if given.palette is not None:
        if len(given.palette) != number:
            raise OptionError(f"--palette has {count(len(given.palette), 'colour')}, the network has {number} classes")
        return given.palette, _Source("--palette", OptionError)
    for palette, source in ((known.palette, of_checkpoint), (stated.palette, _OF_CONFIG)):
        if palette and len(palette) == number:
            return palette, source
    log.warning("%s: has no palette for its %d classes; using Pascal VOC's", checkpoint, number)
    return voc_palette(number), of_checkpoint


def voc_palette(classes: int) -> list[tuple[int, int, int]]:
    """RGB colours by the formula of Pascal VOC's development kit (VOClabelcolormap.m).

    The three lowest bits of a class number are the highest bits of red, green and blue, the next three their second
    highest, and so on.
    """

    def channel(number: int, lowest: int) -> int:
        return sum((number >> (3 * place + lowest) & 1) << (7 - place) for place in range(8))

    return [(channel(number, 0), channel(number, 1), channel(number, 2)) for number in range(classes)]
