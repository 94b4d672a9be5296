"""What the numbers and colours of annotations mean: by the card, unless options say otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pspnet_convert.cards.annotations import IGNORED
from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.evaluate.label_file import read_label_map
from pspnet_convert.commands.evaluate.miou import NO_CLASS
from pspnet_convert.commands.evaluate.options import EvaluateOptions
from pspnet_convert.errors import CardError, DatasetError, OptionError
from pspnet_convert.forms import Colour

if TYPE_CHECKING:
    from pspnet_convert.commands.evaluate.dataset import DataSet

UNKNOWN = -1  # in a table: neither a class nor ignored
# Pascal VOC's colour for the outlines of objects; these pixels do not count.
VOID_COLOUR: Colour = (224, 224, 192)
Reads = Literal["index", "zero ignored", "label map", "label ids"]
# From label ids to train ids: cityscapesscripts/helpers/labels.py. The other ids up to 33 are ignored.
_CITYSCAPES = dict(zip([7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33], range(19)))
_CITYSCAPES_CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)


@dataclass(frozen=True)
class Meaning:
    """What an annotation's values mean.

    `labels`: index, colour, or None for colours in RGB files and indices in others. `table`: for each index from 0 to
    255 its class number, IGNORED, NO_CLASS or UNKNOWN. `reads`: what the table was made by. `label_map`: the file of
    that option. `train_ids`: whether the card's annotations are named for train ids. `knows_255`: whether the user
    said what 255 is. `takes_jpeg`: whether the card's annotations are JPEGs.
    """

    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    labels: str | None
    table: tuple[int, ...]
    ignore_index: int
    reads: Reads = "index"
    label_map: str | None = None
    train_ids: bool = False
    knows_255: bool = False
    ignore_unknown: bool = False
    takes_jpeg: bool = False

    def describe(self) -> str:
        """One line for people."""
        if self.labels == "colour":
            return f"labels: by the card's colours, from {self._in_words(0)} to {self._in_words(-1)}{self._by_colour()}"
        what = "Cityscapes' label ids (mapped to train ids)" if self.reads == "label ids" else "by index"
        text = f"labels {what}: {_classes_in_words(self.table, self.classes)}"
        ignored, none = _values_of(self.table, IGNORED), _values_of(self.table, NO_CLASS)
        text += f"; {ignored} ignored" if ignored else "; none is ignored"
        text += f"; {none}: no class, only what is predicted there counts" if none else ""
        lost = [name for number, name in enumerate(self.classes) if number not in self.table]
        text += f"; no value for {_shortened(lost)}" if lost else ""
        return text + ("" if self.labels == "index" else f". RGB files by the card's colours{self._by_colour()}")

    def _in_words(self, number: int) -> str:
        return f"{self.classes[number]} {_hex(self.palette[number])}"

    def _by_colour(self) -> str:
        """What is ignored where colours are read."""
        ignored = [_hex(VOID_COLOUR)] if VOID_COLOUR not in self.palette else []
        ignored += [self.classes[self.ignore_index]] if self.ignore_index < len(self.classes) else []
        by_class = "; a colour is its class, without reduce_zero_label" if self.reads == "zero ignored" else ""
        return (f", {' and '.join(ignored)} ignored" if ignored else "") + by_class

    def as_record(self) -> dict[str, Any]:
        """Plain values for JSON; equal where the same files are read alike."""
        record: dict[str, Any] = {"labels": self.labels or "colour in RGB files, else index"}
        if self.labels != "colour":
            record["values"] = dict(_runs(self.table))
        if self.labels != "index":
            ignored = self.ignore_index if self.ignore_index < len(self.classes) else None
            record["colours"] = hashlib.sha256(repr((self.palette, ignored)).encode()).hexdigest()[:16]
        return record


def meaning_of(options: EvaluateOptions, card: ModelCard, data: DataSet) -> Meaning:
    """The card's meaning, and what the options and the files' names change in it.

    CardError for more classes than a byte holds; OptionError for options that do not go together, or a bad label map;
    DatasetError for Cityscapes' label ids where the card is of other classes.
    """
    classes, notes = tuple(card.class_names), card.annotations
    if len(classes) > NO_CLASS:
        raise CardError(f"{card.name}: has {len(classes)} classes; no more than {NO_CLASS} can be evaluated")
    _check_options(options)
    ignore = notes.ignore_index if options.ignore_index is None else options.ignore_index
    reads: Reads = "index"
    if options.label_map is not None:
        reads, table = "label map", _by_file(options.label_map, classes, ignore)
    else:
        zero_ignored = notes.reduce_zero_label if options.zero_label is None else options.zero_label == "ignored"
        if _is_label_ids(options, card, data):
            reads, first = "label ids", {**dict.fromkeys([*range(34), 255], 255), **_CITYSCAPES}
            zero_ignored = False
        else:
            reads, first = "zero ignored" if zero_ignored else "index", {value: value for value in range(256)}
        table = _by_card(first, zero_ignored, notes.label_map or {}, ignore, len(classes))
    return Meaning(
        classes=classes,
        palette=tuple(card.palette),
        labels="index" if options.label_map is not None else options.labels,
        table=table,
        ignore_index=ignore,
        reads=reads,
        label_map=str(options.label_map) if options.label_map is not None else None,
        train_ids="trainids" in notes.annotation_suffix.lower(),
        knows_255=options.label_map is not None or options.ignore_index == IGNORED,
        ignore_unknown=options.ignore_unknown,
        takes_jpeg=notes.annotation_suffix.lower().endswith((".jpg", ".jpeg")),
    )


def _check_options(options: EvaluateOptions) -> None:
    if options.label_map is not None and options.zero_label is not None:
        raise OptionError("--zero-label does not go with --label-map", "Say in the file what 0 is.")
    for name, value in (("label-map", options.label_map), ("zero-label", options.zero_label)):
        if options.labels == "colour" and value is not None:
            raise OptionError(f"--{name} does not go with --labels colour", "It is about indices.")


def _by_card(
    first: Mapping[int, int], zero_ignored: bool, label_map: Mapping[int, int], ignore: int, classes: int
) -> tuple[int, ...]:
    """The table of mmsegmentation's LoadAnnotations, with what its IoUMetric makes of each number."""

    def number(value: int) -> int:
        if value not in first:
            return UNKNOWN
        value = first[value]
        if zero_ignored:
            value = 255 if value in (0, 255) else value - 1
        value = label_map.get(value, value)
        if value == ignore:
            return IGNORED
        return value if value < classes else NO_CLASS if value == 255 else UNKNOWN

    return tuple(number(value) for value in range(256))


def _by_file(path: Path, classes: tuple[str, ...], ignore: int) -> tuple[int, ...]:
    listed = {value: IGNORED if number == ignore else number for value, number in read_label_map(path, classes).items()}
    return tuple(listed.get(value, IGNORED if value == ignore else UNKNOWN) for value in range(256))


def _is_label_ids(options: EvaluateOptions, card: ModelCard, data: DataSet) -> bool:
    """Whether the files are Cityscapes' label ids, where the card has train ids."""
    named = [entry.annotation.name.lower().endswith("_labelids.png") for entry in data.entries]
    is_asked = options.zero_label is not None or options.labels == "colour"
    if is_asked or not any(named) or card.annotations.annotation_suffix.lower().endswith("_labelids.png"):
        return False
    one = data.entries[named.index(True)].annotation
    if not all(named):
        raise DatasetError(f"{one}: holds label ids, but others of the data set do not", "Leave out one kind.")
    if card.annotations.dataset != "CityscapesDataset" and tuple(card.class_names) != _CITYSCAPES_CLASSES:
        raise DatasetError(
            f"{one}: holds Cityscapes' label ids by its name, and the card's classes are not those of Cityscapes",
            "Say what each number is with --label-map.",
        )
    return True


# In words


def _runs(table: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """Neighbouring values as one: ("0-20", "0-20"), ("255", "ignored"). Unknown ones are left out."""
    start = 0
    while start < len(table):
        step = 1 if 0 <= table[start] < NO_CLASS else 0
        end = start
        while end + 1 < len(table) and table[end + 1] == table[end] + step and (not step or table[end + 1] < NO_CLASS):
            end += 1
        first, last = table[start], table[end]
        if first != UNKNOWN:
            names = {IGNORED: "ignored", NO_CLASS: "no class"}
            yield _range(start, end), names.get(first) or _range(first, last)
        start = end + 1


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _values_of(table: tuple[int, ...], kind: int) -> str:
    name = "ignored" if kind == IGNORED else "no class"
    return ", ".join(values for values, what in _runs(table) if what == name)


def _classes_in_words(table: tuple[int, ...], classes: tuple[str, ...]) -> str:
    runs = [(values, numbers) for values, numbers in _runs(table) if numbers[0].isdigit()]
    named = [(value, number) for value, number in enumerate(table) if 0 <= number < NO_CLASS]
    words = [f"{value} {classes[number]}" for value, number in named]
    if len(runs) == 1 and len(words) > 2:
        return f"{words[0]} .. {words[-1]}"
    return _shortened(words)


def _shortened(words: list[str]) -> str:
    return ", ".join(words) if len(words) <= 6 else f"{', '.join(words[:4])} .. {words[-1]}"


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
