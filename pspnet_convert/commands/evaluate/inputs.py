"""What an evaluation is of: the protocol, the images and the models, as the user asked for them or by default."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.evaluate.dataset import Entry
from pspnet_convert.commands.evaluate.labelling import PYTORCH
from pspnet_convert.commands.evaluate.options import EvaluateOptions
from pspnet_convert.commands.evaluate.protocols import PROTOCOLS
from pspnet_convert.errors import CardError, DatasetError
from pspnet_convert.runtimes.model_file import ModelFile

log = logging.getLogger(__name__)


def find_protocol(options: EvaluateOptions, card: ModelCard) -> str:
    """The user's; else that of the card's first figure whose protocol is one of PROTOCOLS; else `crop`."""
    known = (figure.protocol for figure in card.accuracy if figure.protocol in PROTOCOLS)
    return options.protocol or next(known, "crop")


def find_dataset(options: EvaluateOptions, card: ModelCard) -> Path:
    """The folder; DatasetError if none is given and the card has none."""
    if options.dataset is not None:
        return options.dataset
    if card.dataset is None:
        raise DatasetError(f"{card.name} comes with no data set", "Give one with --dataset.")
    return card.folder / card.dataset


def image_digests(entries: Sequence[Entry], digest: Callable[[Path], str]) -> dict[str, list[str | None]]:
    """The SHA-256 of each entry's image and annotation, by its name; None for a file that is not there."""
    return {
        entry.name: [digest(path) if path.is_file() else None for path in (entry.image, entry.annotation)]
        for entry in entries
    }


def stated_figure(card: ModelCard, protocol: str | None) -> float | None:
    """The card's mean IoU (per cent) by this protocol."""
    figures = (figure for figure in card.accuracy if figure.metric == "mean_iou")
    return next((figure.value for figure in figures if figure.protocol == protocol), None)


def check_comparable(options: EvaluateOptions, card: ModelCard, subjects: Sequence[ModelFile]) -> None:
    """CardError if a drop is to be limited, and there is nothing that it could be measured from."""
    has_reference = stated_figure(card, options.protocol) is not None or subjects[0].name == PYTORCH
    if options.max_drop is not None and not has_reference:
        raise CardError(
            f"{card.name}: --max-drop has nothing to compare with: the card has no figure of {options.protocol}",
            "Evaluate PyTorch in the same pass.",
        )
