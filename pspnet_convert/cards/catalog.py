"""From a name on the command line to a model card: a built-in model's, one of mmsegmentation's index, or a `model.yml`.

What the index has is model_index.py's business, and what becomes of its entries derived_card.py's.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.derived_card import derived_card, licence_of
from pspnet_convert.cards.model_index import Published, published
from pspnet_convert.errors import CardError

DEFAULT_MODEL = "pspnet-pytorch"
_PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Listed:
    """What one chooses a model by. `crop_size` is height and width; `metrics` are per cent, by name."""

    name: str
    dataset: str | None
    backbone: str | None
    crop_size: tuple[int, int]
    metrics: Mapping[str, float]
    digest_prefix: str | None
    licence: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def shipped(name: str) -> Path:
    """A file or folder that lies at the repository's top level, or inside the package once it is a wheel."""
    in_wheel = _PACKAGE / name
    return in_wheel if in_wheel.exists() else _PACKAGE.parent / name


def built_in() -> dict[str, Path]:
    """The names of the built-in models, and where their cards lie."""
    return {DEFAULT_MODEL: shipped("model.yml"), "demo": _PACKAGE / "data" / "demo" / "model.yml"}


def find_card(model: str = DEFAULT_MODEL) -> ModelCard:
    """The card of a built-in or published model, or of a `model.yml` (or a folder that holds one); else CardError."""
    cards = built_in()
    if model in cards:
        return load_card(cards[model])
    path = Path(model)
    is_there = _exists(path)
    # Not is_file(): a shell's <(...) is a pipe.
    if (is_there and not path.is_dir()) or path.suffix in (".yml", ".yaml"):
        return load_card(path)
    if is_there and path.name != model:  # no name: the index need not be read
        return load_card(path / "model.yml")
    models = {one.name: one for one in published()}
    if model in models:
        return derived_card(models[model])
    if is_there:
        return load_card(path / "model.yml")
    guess = difflib.get_close_matches(model, [*cards, *models], n=1)
    hint = f"Did you mean {guess[0]!r}? " if guess else ""
    raise CardError(f"no model named {model!r}", f"{hint}`list` shows all names; or give the path of a model.yml.")


def names() -> list[str]:
    """Of all models that are neither files nor folders."""
    return [*built_in(), *(one.name for one in published())]


def listed(dataset: str = "", backbone: str = "", search: str = "") -> list[Listed]:
    """The models of the catalog, built-in ones first, whose dataset and backbone hold these texts, in any case.

    `search` may be anywhere in name, dataset or backbone.
    """
    entries = published()
    models = [_built_in(load_card(path), entries) for path in built_in().values()]
    models += [_published(entry) for entry in entries]
    return [
        one
        for one in models
        if _holds(one.dataset, dataset)
        and _holds(one.backbone, backbone)
        and _holds(" ".join(filter(None, (one.name, one.dataset, one.backbone))), search)
    ]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a text that no path can be
        return False


def _built_in(card: ModelCard, entries: Sequence[Published]) -> Listed:
    """Its backbone is that of its config, where that is one of the index's."""
    # Of several figures the one that is taken as the index's are.
    figure = min(card.accuracy, key=lambda figure: figure.protocol != "whole", default=None)
    return Listed(
        name=card.name,
        dataset=figure.dataset if figure else None,
        backbone=next((entry.backbone for entry in entries if entry.config == card.config), None),
        crop_size=(card.input.height, card.input.width),
        metrics={"mIoU": figure.value} if figure else {},
        digest_prefix=card.checkpoint.digest[:8],
        licence=card.license.name,
    )


def _published(entry: Published) -> Listed:
    return Listed(
        name=entry.name,
        dataset=entry.dataset,
        backbone=entry.backbone,
        crop_size=entry.crop_size,
        metrics=entry.metrics,
        digest_prefix=entry.digest_prefix,
        licence=licence_of(entry).name,
    )


def _holds(text: str | None, part: str) -> bool:
    return part.casefold() in (text or "").casefold()
