"""Where a data set has its files: what all layouts share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pspnet_convert.cards.card import ModelCard

DEFAULT_SPLIT = "val"
OWN_FOLDERS = "images and annotations"  # the layout of --images and --annotations
GIVE_LAYOUT = "Give --layout, or the folders themselves with --images and --annotations."
TRAIN_IDS, LABEL_IDS = "_gtFine_labelTrainIds.png", "_gtFine_labelIds.png"
# One split has two names in use.
_ALIASES = {"val": "validation", "validation": "val", "train": "training", "training": "train"}


@dataclass(frozen=True)
class Place:
    """Where a data set has its files.

    `folders`: each folder of images with that of their annotations. Suffixes: those to look for, best first.
    With `only_suffix`, a file without the image suffix is no image.
    """

    layout: str
    root: Path
    folders: Sequence[tuple[Path, Path]]
    image_suffix: str
    annotation_suffixes: Sequence[str]
    split: str | None = None
    list_file: Path | None = None
    only_suffix: bool = False

    @property
    def where(self) -> str:
        """The folders below the root, for people."""
        return ", ".join(f"{self._below(images)} and {self._below(labels)}" for images, labels in self.folders)

    def _below(self, folder: Path) -> str:
        return folder.relative_to(self.root).as_posix() if folder.is_relative_to(self.root) else str(folder)


def names_of(split: str) -> list[str]:
    """The names that a split may have, as given first."""
    return [split, *([_ALIASES[split]] if split in _ALIASES else [])]


def existing(root: Path, paths: Sequence[str]) -> Path:
    """The first of the paths below `root` that is there, else the first."""
    candidates = [root / path for path in paths]
    return next((path for path in candidates if path.exists()), candidates[0])


def suffixes(card: ModelCard) -> list[str]:
    """The annotation suffixes of the card; Cityscapes is published with label ids, from which train ids are made."""
    suffix = card.annotations.annotation_suffix
    return [suffix, LABEL_IDS] if suffix == TRAIN_IDS else [suffix]
