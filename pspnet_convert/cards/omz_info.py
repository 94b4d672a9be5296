"""A card as Open Model Zoo's `omz_info_dumper` prints its models, for scripts that read that."""

from __future__ import annotations

from typing import Any

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.workspace import PRECISIONS


def omz_info(card: ModelCard) -> dict[str, Any]:
    """The dumper's keys, in its order, in plain values; None where it has None, of what a card does not say."""
    return {
        "name": card.name,
        "composite_model_name": None,
        "description": card.description,
        "framework": "onnx",  # as the dumper has it where a model's way to IR is by ONNX
        "license_url": card.license.url,
        "accuracy_config": None,
        # Of a card that is derived from a config there is no file.
        "model_config": str(card.path.absolute()) if card.path.suffix != ".py" else None,
        "precisions": sorted(PRECISIONS),
        "subdirectory": f"public/{card.name}",
        "task_type": card.task_type,
        "input_info": [
            {"name": card.input.name, "shape": list(card.input.shape), "layout": card.input.layout},
        ],
        "model_stages": [],
    }
