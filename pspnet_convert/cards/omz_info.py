"""A card in the format of Open Model Zoo's `omz_info_dumper`, for scripts that read that."""

from __future__ import annotations

from typing import Any

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.workspace import PRECISIONS


def omz_info(card: ModelCard) -> dict[str, Any]:
    """The dumper's keys in its order, with plain values; None for what a card does not have, as in the dumper."""
    return {
        "name": card.name,
        "composite_model_name": None,
        "description": card.description,
        "framework": "onnx",  # the dumper's value for a model that is converted through ONNX
        "license_url": card.license.url,
        "accuracy_config": None,
        # A card derived from a config has no file: its path is the config's.
        "model_config": str(card.path.absolute()) if card.path.suffix != ".py" else None,
        "precisions": sorted(PRECISIONS),
        "subdirectory": f"public/{card.name}",
        "task_type": card.task_type,
        "input_info": [
            {"name": card.input.name, "shape": list(card.input.shape), "layout": card.input.layout},
        ],
        "model_stages": [],
    }
