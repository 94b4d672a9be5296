"""Find the card of a model named on the command line, and list the models that have a name."""

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
_ADVICE = "Run `pspnet-convert list` for all names, or give the path of a model.yml."


@dataclass(frozen=True)
class Listed:
    """A row of `list`. `crop_size` is height and width; `metrics` are per cent, by name."""

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
    """A file or folder of the repository's top level; a wheel has it inside the package."""
    in_wheel = _PACKAGE / name
    return in_wheel if in_wheel.exists() else _PACKAGE.parent / name


def built_in() -> dict[str, Path]:
    """The names of the built-in models and the paths of their cards."""
    return {DEFAULT_MODEL: shipped("model.yml"), "demo": _PACKAGE / "data" / "demo" / "model.yml"}


def find_card(model: str = DEFAULT_MODEL) -> ModelCard:
    """The card of a built-in or published model, a `model.yml`, or a folder that holds one; CardError if none fits."""
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
    raise CardError(f"no model named {model!r}", f"{hint}{_ADVICE}")


def names() -> list[str]:
    """The names of all built-in and published models."""
    return [*built_in(), *(one.name for one in published())]


def listed(dataset: str = "", backbone: str = "", search: str = "") -> list[Listed]:
    """The catalog's models, built-in ones first, with these texts in dataset and backbone. Case does not matter.

    `search` may occur in name, dataset or backbone.
    """
    entries = published()
    models = [_row_of_built_in(load_card(path), entries) for path in built_in().values()]
    models += [_row_of_published(entry) for entry in entries]
    return [
        one
        for one in models
        if _contains(one.dataset, dataset)
        and _contains(one.backbone, backbone)
        and _contains(" ".join(filter(None, (one.name, one.dataset, one.backbone))), search)
    ]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the text cannot be a path
        return False


def _row_of_built_in(card: ModelCard, entries: Sequence[Published]) -> Listed:
    """A built-in model's row; the backbone is known if the index has the model's config."""
    # Of several figures, prefer the one measured as the index's figures are.
    figure = min(card.accuracy, key=lambda figure: figure.protocol != "mmseg", default=None)
    return Listed(
        name=card.name,
        dataset=figure.dataset if figure else None,
        backbone=next((entry.backbone for entry in entries if entry.config == card.config), None),
        crop_size=(card.input.height, card.input.width),
        metrics={"mIoU": figure.value} if figure else {},
        digest_prefix=card.checkpoint.digest[:8],
        licence=card.license.name,
    )


def _row_of_published(entry: Published) -> Listed:
    return Listed(
        name=entry.name,
        dataset=entry.dataset,
        backbone=entry.backbone,
        crop_size=entry.crop_size,
        metrics=entry.metrics,
        digest_prefix=entry.digest_prefix,
        licence=licence_of(entry).name,
    )


def _contains(text: str | None, part: str) -> bool:
    return part.casefold() in (text or "").casefold()
