"""From a name on the command line to a model card: a built-in model's name, or the path of a `model.yml`."""

from __future__ import annotations

import difflib
from pathlib import Path

from pspnet_convert.card import ModelCard, load_card
from pspnet_convert.errors import CardError

DEFAULT_MODEL = "pspnet-pytorch"
_PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """A file or folder that lies at the repository's top level, or inside the package once it is a wheel."""
    in_wheel = _PACKAGE / name
    return in_wheel if in_wheel.exists() else _PACKAGE.parent / name


def built_in() -> dict[str, Path]:
    """The names of the built-in models, and where their cards lie."""
    return {DEFAULT_MODEL: shipped("model.yml"), "demo": _PACKAGE / "demo" / "model.yml"}


def find_card(model: str = DEFAULT_MODEL) -> ModelCard:
    """The card of a built-in model, or of a `model.yml` (or a folder that holds one); CardError if neither."""
    cards = built_in()
    if model in cards:
        return load_card(cards[model])
    path = Path(model)
    if path.is_dir():
        path = path / "model.yml"
    if path.exists() or path.suffix in (".yml", ".yaml"):
        return load_card(path)
    guess = difflib.get_close_matches(model, cards, n=1)
    hint = f"Did you mean {guess[0]!r}? " if guess else ""
    raise CardError(
        f"no model named {model!r}", f"{hint}Built in: {', '.join(cards)}; or give the path of a model.yml."
    )
