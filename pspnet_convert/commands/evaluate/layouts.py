"""The layouts of data sets: below a root, where are images, annotations and the list of a split?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.evaluate.card_layout import card_paths, card_place, has_card_folders
from pspnet_convert.commands.evaluate.data_files import images_below
from pspnet_convert.commands.evaluate.place import (
    DEFAULT_SPLIT,
    GIVE_LAYOUT,
    LABEL_IDS,
    OWN_FOLDERS,
    TRAIN_IDS,
    Place,
    existing,
    names_of,
    suffixes,
)
from pspnet_convert.errors import DatasetError

_TWO_FOLDERS = {
    "img_dir": ("img_dir", "ann_dir"),
    "images": ("images", "annotations"),
    "cityscapes": ("leftImg8bit", "gtFine"),
}


def find_place(root: Path, layout: str | None, split: str, card: ModelCard, has_list: bool) -> Place:
    """The place of `split` below `root`, in this layout or in the one that is recognised.

    With `has_list`, the layout's own list is not needed. DatasetError if no layout is recognised, or several.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: there is no such folder")
    if layout is not None:
        return _FINDERS[layout](root, split, card, has_list)
    says = bool({"image_folder", "annotation_folder"} & card.annotations.model_fields_set)
    if says and has_card_folders(root, split, card):
        return card_place(root, split, card, has_list)
    found = [name for name, is_there in _MARKS.items() if is_there(root)]
    if len(found) > 1:
        raise DatasetError(f"{root}: may be in layout {' or '.join(found)}", "Say which with --layout.")
    if found:
        return _FINDERS[found[0]](root, split, card, has_list)
    if not says and has_card_folders(root, split, card):
        return card_place(root, split, card, has_list)
    if has_list:
        return Place("list", root, [(root, root)], card.annotations.image_suffix, _suffixes(card))
    raise _nothing_recognised(root, split, card)


def own_folders(images: Path, labels: Path, card: ModelCard) -> Place:
    """Two folders that the user gives."""
    for folder in (images, labels):
        if not folder.is_dir():
            raise DatasetError(f"{folder}: there is no such folder")
    suffix = card.annotations.image_suffix
    is_one_folder = images.resolve() == labels.resolve()
    return Place(OWN_FOLDERS, images, [(images, labels)], suffix, _suffixes(card), only_suffix=is_one_folder)


def _nothing_recognised(root: Path, split: str, card: ModelCard) -> DatasetError:
    images, labels, _ = card_paths(split, card) or card_paths(DEFAULT_SPLIT, card) or ([""], [""], [])
    looked = [f"{images[0]} + {labels[0]} (card)", f"ImageSets/Segmentation/{split}.txt (voc)"]
    looked += [f"{one}/{split} + {two}/{split} ({name})" for name, (one, two) in _TWO_FOLDERS.items()]
    looked.append(f"{split.capitalize()}/Urban/images_png (loveda)")
    inner = [path for path in sorted(root.iterdir()) if path.is_dir() and _is_root(path, split, card)]
    advice = f"Did you mean --dataset {inner[0]}?" if inner else GIVE_LAYOUT
    return DatasetError(f"{root}: no layout of a data set is recognised: looked for {', '.join(looked)}", advice)


def _is_root(folder: Path, split: str, card: ModelCard) -> bool:
    images, labels, _ = card_paths(split, card) or ([], [], [])
    has_card = any((folder / one).is_dir() and (folder / two).is_dir() for one, two in zip(images, labels))
    return has_card or any(is_there(folder) for is_there in _MARKS.values())


def _voc(root: Path, split: str, card: ModelCard, has_list: bool) -> Place:
    names = "ImageSets/Segmentation"
    listed = None if has_list else existing(root, [f"{names}/{name}.txt" for name in names_of(split)])
    if listed is not None and not listed.is_file():
        others = sorted(path.stem for path in (root / names).glob("*.txt"))
        raise DatasetError(f"{listed}: the list of images cannot be read: No such file or directory", _other(others))
    folders = [(root / "JPEGImages", root / "SegmentationClass")]
    suffix = card.annotations.image_suffix
    return Place("voc", root, folders, suffix, _suffixes(card), listed.stem if listed else None, listed)


def _two_folders(layout: str) -> Callable[[Path, str, ModelCard, bool], Place]:
    def find(root: Path, split: str, card: ModelCard, has_list: bool) -> Place:
        images, labels = (root / name for name in _TWO_FOLDERS[layout])
        names = names_of(split)
        named = next((name for name in names if (images / name).is_dir() and (labels / name).is_dir()), None)
        if named is None and not (split == DEFAULT_SPLIT and _is_flat(images) and _is_flat(labels)):
            others = sorted(path.name for path in images.glob("*") if (labels / path.name).is_dir())
            missing = f"{images.name}/{split} with {labels.name}/{split}"
            raise DatasetError(f"{root}: layout {layout} has no split {split!r}: no {missing}", _other(others))
        folders = [(images / (named or ""), labels / (named or ""))]
        suffix = "_leftImg8bit.png" if layout == "cityscapes" else card.annotations.image_suffix
        endings = [TRAIN_IDS, LABEL_IDS] if layout == "cityscapes" else _suffixes(card)
        return Place(layout, root, folders, suffix, endings, named)

    return find


def _loveda(root: Path, split: str, card: ModelCard, has_list: bool) -> Place:
    """As it is published: Val/Urban/images_png, Val/Urban/masks_png, and the same with Rural."""
    names = [name.capitalize() for name in names_of(split)]
    named = next((name for name in names if _is_loveda(root / name)), None)
    if named is None:
        others = sorted(path.name.lower() for path in root.glob("*") if _is_loveda(path))
        raise DatasetError(f"{root}: layout loveda has no split {split!r}", _other(others))
    areas = [root / named / area for area in ("Rural", "Urban")]
    folders = [(area / "images_png", area / "masks_png") for area in areas if (area / "images_png").is_dir()]
    return Place("loveda", root, folders, ".png", [".png"], named)


def _is_loveda(folder: Path) -> bool:
    return any((folder / area / "images_png").is_dir() for area in ("Rural", "Urban"))


def _has(*folders: str) -> Callable[[Path], bool]:
    return lambda root: all((root / folder).is_dir() for folder in folders)


_MARKS: dict[str, Callable[[Path], bool]] = {
    "voc": _has("ImageSets/Segmentation", "JPEGImages"),
    **{name: _has(*folders) for name, folders in _TWO_FOLDERS.items()},
    "loveda": lambda root: any(_is_loveda(path) for path in root.glob("*")),
}
_FINDERS: dict[str, Callable[[Path, str, ModelCard, bool], Place]] = {
    "card": card_place,
    "voc": _voc,
    **{name: _two_folders(name) for name in _TWO_FOLDERS},
    "loveda": _loveda,
}


def _is_flat(folder: Path) -> bool:
    """Whether there are images, and all directly in the folder."""
    found = images_below(folder) if folder.is_dir() else []
    return bool(found) and not any("/" in path for path in found)


def _other(splits: Sequence[str]) -> str:
    return f"It has {', '.join(splits[:8])}: give one with --split." if splits else GIVE_LAYOUT


def _suffixes(card: ModelCard) -> list[str]:
    return [*suffixes(card), ".png"]
