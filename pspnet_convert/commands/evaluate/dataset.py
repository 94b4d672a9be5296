"""Find a data set's images and their annotations, in the layouts that people have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.evaluate.annotations import Truth
from pspnet_convert.commands.evaluate.data_files import images_below, is_file, read_list
from pspnet_convert.commands.evaluate.entries import Entry, Found, listed_images, paired, walked_images
from pspnet_convert.commands.evaluate.layouts import find_place, own_folders
from pspnet_convert.commands.evaluate.options import EvaluateOptions
from pspnet_convert.commands.evaluate.place import DEFAULT_SPLIT, OWN_FOLDERS, Place
from pspnet_convert.errors import DatasetError, OptionError, count


@dataclass(frozen=True)
class DataSet:
    """A data set's images, in the order in which they are evaluated.

    `name`: its folder's. `layout`: that which was recognised or forced, or `images and annotations`. `where`: in words.
    """

    name: str
    layout: str
    split: str | None
    entries: Sequence[Entry]
    where: str = ""

    def describe(self) -> str:
        return f"{count(len(self.entries), 'image')} {self.where}"


def find_data(options: EvaluateOptions, card: ModelCard) -> DataSet:
    """The images that the options name, or those that come with the model.

    OptionError for options that do not go together; DatasetError if the data set cannot be found or understood. A
    listed file that is missing is no error here: `check_files` reports it.
    """
    place = _place(options, card)
    listed = options.list_file or place.list_file
    found = walked_images(place) if listed is None else listed_images(place, read_list(listed), listed.parent)
    _check_unique(found, listed)
    entries, missing = paired(place, found)
    is_given = options.images is not None
    if is_given and missing and not options.skip_bad:
        raise _unpaired(missing, len(entries), place)
    where = _describe(options, place) + (f"; {len(missing)} without annotation" if missing else "")
    if listed is None:
        where += _extra(place, entries)
    name = place.root.resolve().name
    return DataSet(name, place.layout, place.split, entries, where)


def check_files(entry: Entry) -> None:
    """Raise DatasetError if one of the entry's files is missing."""
    if not is_file(entry.image):
        raise DatasetError(f"{entry.image}: there is no such image", "Remove it from the list, or use --skip-bad.")
    if not is_file(entry.annotation):
        raise DatasetError(
            f"{entry.annotation}: there is no such annotation",
            f"If that of {entry.image.name} has another name, list the pairs in a file for --list; or use --skip-bad.",
        )


def check_size(entry: Entry, truth: Truth, image_size: tuple[int, int]) -> None:
    """Raise DatasetError if the annotation has another size than its image: (height, width), rotated as EXIF says."""
    if truth.numbers.shape != image_size:
        height, width = truth.numbers.shape
        raise DatasetError(
            f"{entry.annotation}: is {width}x{height}, but its image is {image_size[1]}x{image_size[0]} "
            "(rotated as its EXIF says)",
            "Make the annotation again, or use --skip-bad.",
        )


def _place(options: EvaluateOptions, card: ModelCard) -> Place:
    if options.images is None and options.annotations is None:
        return find_place(_root(options, card), options.layout, options.split, card, options.list_file is not None)
    if options.images is None or options.annotations is None:
        raise OptionError("--images and --annotations go together", "Or give a data set's root with --dataset.")
    others = {"dataset": options.dataset, "layout": options.layout}
    given = [f"--{name}" for name, value in others.items() if value is not None]
    given += ["--split"] if options.split != DEFAULT_SPLIT else []
    if given:
        raise OptionError(f"{given[0]} does not go with --images and --annotations")
    return own_folders(options.images, options.annotations, card)


def _root(options: EvaluateOptions, card: ModelCard) -> Path:
    if options.dataset is not None:
        return options.dataset
    if card.dataset is None:
        raise DatasetError(f"{card.name} comes with no data set", "Give one with --dataset.")
    return card.folder / card.dataset


def _check_unique(found: Sequence[Found], source: Path | None) -> None:
    names: dict[str, Path] = {}
    images: dict[Path, str] = {}
    for one in found:
        if one.name in names or one.image in images:
            if source is not None:
                raise DatasetError(f"{source}: lists {one.name!r} more than once", "Each image counts once.")
            raise DatasetError(
                f"{one.image}: has the same name as {names[one.name]}, but for the suffix",
                "Leave one of them out, or say which ones to take with --list-file.",
            )
        names[one.name], images[one.image] = one.image, one.name


def _unpaired(missing: Sequence[Entry], images: int, place: Place) -> DatasetError:
    others = f", and so {'is' if len(missing) == 2 else 'are'} {len(missing) - 1} more of {images}"
    return DatasetError(
        f"{missing[0].image}: is without an annotation in {place.folders[0][1]}{others if len(missing) > 1 else ''}",
        "The names must be the same but for their suffixes. Else list the pairs, an image and its annotation a line, "
        "in a file for --list-file; or use --skip-bad.",
    )


def _describe(options: EvaluateOptions, place: Place) -> str:
    """Without paths of this machine: the manifest holds it."""
    listed = options.list_file or place.list_file
    by_list = "" if listed is None else f", listed in {_named(listed, place)}"
    if options.images is not None and options.annotations is not None:
        images, labels = (path.resolve().name for path in (options.images, options.annotations))
        return f"of {images} with the annotations of {labels}, paired by name{by_list}"
    as_card = " (the card's)" if place.layout == "card" else ""
    name = place.root.resolve().name
    if place.layout == "list":
        return f"of {name}{by_list}"
    return f"of {name}, layout {place.layout}: {place.where}{as_card}{by_list}"


def _named(path: Path, place: Place) -> str:
    """The path below the data set's root; the name alone of what is elsewhere."""
    return path.relative_to(place.root).as_posix() if path.is_relative_to(place.root) else path.name


def _extra(place: Place, entries: Sequence[Entry]) -> str:
    """Files that are not used, in words: images of another suffix than the card's, annotations without an image."""
    images, labels = place.folders[0]
    if images.resolve() == labels.resolve():
        return ""
    if place.only_suffix:
        folder, used = images, len(entries)
    elif place.layout == OWN_FOLDERS:
        folder, used = labels, sum(is_file(entry.annotation) for entry in entries)
    else:
        return ""
    extra = len(images_below(folder)) - used
    return f"; {count(extra, 'other file')} in {_named(folder, place)} not used" if extra > 0 else ""
