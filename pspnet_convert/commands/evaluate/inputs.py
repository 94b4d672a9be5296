"""Choose what is evaluated: protocol and data set, as the user asked or by default."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.evaluate.entries import Entry
from pspnet_convert.commands.evaluate.labelling import PYTORCH
from pspnet_convert.commands.evaluate.options import EvaluateOptions
from pspnet_convert.errors import CardError
from pspnet_convert.manifest_fields import Protocol
from pspnet_convert.runtimes.model_file import ModelFile

log = logging.getLogger(__name__)


def find_protocol(options: EvaluateOptions, card: ModelCard) -> Protocol:
    """The user's protocol; else that of the card's first figure; else `mmseg` if the card says how, else `crop`."""
    stated = next((figure.protocol for figure in card.accuracy), None)
    return cast(Protocol, options.protocol or stated or ("mmseg" if card.mmseg_test else "crop"))


def image_digests(entries: Sequence[Entry], digest: Callable[[Path], str]) -> dict[str, list[str | None]]:
    """By entry name, the SHA-256 of its image and its annotation; None for a file that is missing."""
    return {
        entry.name: [digest(path) if path.is_file() else None for path in (entry.image, entry.annotation)]
        for entry in entries
    }


def stated_figure(card: ModelCard, protocol: str | None) -> float | None:
    """The card's mean IoU, in per cent, for this protocol; None if it states none."""
    figures = (figure for figure in card.accuracy if figure.metric == "mean_iou")
    return next((figure.value for figure in figures if figure.protocol == protocol), None)


def check_comparable(options: EvaluateOptions, card: ModelCard, subjects: Sequence[ModelFile]) -> None:
    """Raise CardError if --max-drop is given and there is no reference to measure the drop against."""
    has_reference = stated_figure(card, options.protocol) is not None or subjects[0].name == PYTORCH
    if options.max_drop is not None and not has_reference:
        raise CardError(
            f"{card.name}: --max-drop has nothing to compare with: "
            f"the card has no figure for protocol {options.protocol}",
            "Evaluate PyTorch in the same pass (--backend PyTorch).",
        )
