"""The layout of the card: the folders, suffixes and the list that mmsegmentation's class of the data set has."""

from __future__ import annotations

import re
from pathlib import Path

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.evaluate.place import DEFAULT_SPLIT, GIVE_LAYOUT, Place, existing, names_of, suffixes
from pspnet_convert.errors import DatasetError

_SPLIT_NAME = re.compile(r"(val|validation|train|training|test)(\d*)")


def card_place(root: Path, split: str, card: ModelCard, has_list: bool) -> Place:
    """The place of `split` in the card's layout; DatasetError if a folder is missing."""
    paths = card_paths(split, card)
    if paths is None:
        raise DatasetError(
            f"the card's data set has no splits ({card.annotations.image_folder}), so none is {split!r}",
            "Leave out --split, or give --layout.",
        )
    image_paths, label_paths, lists = paths
    images, labels = existing(root, image_paths), existing(root, label_paths)
    for folder in (images, labels):
        if not folder.is_dir():
            raise DatasetError(f"{folder}: there is no such folder, where the card has the data set's", GIVE_LAYOUT)
    notes = card.annotations
    listed = existing(root, lists) if lists and not has_list else None
    if listed is not None and not listed.is_file():
        others = ", ".join(sorted(path.stem for path in listed.parent.glob(f"*{listed.suffix}"))[:8])
        advice = f"It has {others}: give one with --split." if others else "Give a list with --list."
        raise DatasetError(f"{listed}: the list of images cannot be read: No such file or directory", advice)
    named = listed.stem if listed else _split_in(images.relative_to(root).as_posix())
    return Place(
        "card",
        root,
        [(images, labels)],
        notes.image_suffix,
        suffixes(card),
        named,
        listed,
        only_suffix=True,
    )


def has_card_folders(root: Path, split: str, card: ModelCard) -> bool:
    """Whether the card's folders are there; DatasetError for images without annotations, which are no other layout."""
    paths = card_paths(split, card)
    if paths is None:
        return False
    image_paths, label_paths, _ = paths
    images, labels = existing(root, image_paths), existing(root, label_paths)
    if images.is_dir() and images != root and not labels.is_dir():
        raise DatasetError(f"{root}: has the card's {image_paths[0]}, but no {label_paths[0]}", GIVE_LAYOUT)
    return images.is_dir() and labels.is_dir() and (images, labels) != (root, root)


def card_paths(split: str, card: ModelCard) -> tuple[list[str], list[str], list[str]] | None:
    """Candidates for the card's folders of images and annotations, and for its list, which may have none.

    None if the card's paths have no splits, and another than the default is asked for.
    """
    notes = card.annotations
    if split == DEFAULT_SPLIT:
        return [notes.image_folder], [notes.annotation_folder], [notes.list_file] if notes.list_file else []
    lists = []
    if notes.list_file is not None:
        path = Path(notes.list_file)
        lists = [path.with_name(f"{name}{path.suffix}").as_posix() for name in names_of(split)]
    images, labels = _renamed(notes.image_folder, split), _renamed(notes.annotation_folder, split)
    if not lists and not (_split_in(notes.image_folder) and _split_in(notes.annotation_folder)):
        return None
    return images, labels, lists


def _renamed(path: str, split: str) -> list[str]:
    """`path` with the last part that names a split replaced: images/val2017 to images/train2017, images/train ..."""
    parts = path.split("/")
    at = next((at for at in reversed(range(len(parts))) if _SPLIT_NAME.fullmatch(parts[at])), None)
    if at is None:
        return [path]
    match = _SPLIT_NAME.fullmatch(parts[at])
    digits = match[2] if match else ""
    # The spelling of the card's own folder first: `training` next to `validation`.
    is_long = bool(match and match[1] in ("validation", "training"))
    names = sorted(names_of(split), key=len, reverse=is_long)
    candidates = [f"{name}{digits}" for name in names] + ([*names] if digits else [])
    return ["/".join([*parts[:at], name, *parts[at + 1 :]]) for name in candidates]


def _split_in(path: str) -> str | None:
    return next((part for part in reversed(path.split("/")) if _SPLIT_NAME.fullmatch(part)), None)
