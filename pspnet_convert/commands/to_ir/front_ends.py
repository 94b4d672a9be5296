"""The two front-ends, Model Optimizer and OpenVINO's own converter (ovc): their arguments, and which one is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ConversionError, DependencyError
from pspnet_convert.runtimes.openvino_install import has_model_optimizer, require_openvino

MoArguments = Mapping[str, str | bool]


@dataclass(frozen=True)
class ModelOptimizer:
    """Model Optimizer, which ended with OpenVINO 2024.6. `mo_args`: further arguments, by their Python names."""

    name: ClassVar[str] = "mo"
    label: ClassVar[str] = "Model Optimizer"
    module: ClassVar[str] = "commands.to_ir.model_optimizer"
    tools: ClassVar[tuple[str, ...]] = ("openvino", "openvino-dev")
    mo_args: MoArguments = field(default_factory=dict)

    def arguments(self, card: ModelCard, outputs: Sequence[str]) -> dict[str, Any]:
        """The card's settings as Model Optimizer's, and `mo_args`; ConversionError for one that the card sets."""
        arguments = model_optimizer_arguments(card, outputs)
        given_twice = sorted(set(arguments) & set(self.mo_args))
        if given_twice:
            raise ConversionError(
                f"--mo-arg {given_twice[0]}: is set from the card ({arguments[given_twice[0]]!r})",
                "Change the card instead.",
            )
        return {**arguments, **self.mo_args}


@dataclass(frozen=True)
class Ovc:
    """OpenVINO's own converter: `openvino.convert_model`, and PrePostProcessor for the card's preprocessing."""

    name: ClassVar[str] = "ovc"
    label: ClassVar[str] = "ovc"
    module: ClassVar[str] = "commands.to_ir.ovc"
    tools: ClassVar[tuple[str, ...]] = ("openvino",)
    mo_args: ClassVar[MoArguments] = {}

    def arguments(self, card: ModelCard, outputs: Sequence[str]) -> dict[str, Any]:
        """The card's settings of its input. Mean and scale are in the ONNX's colour order."""
        return {
            "input": card.input.name,
            "layout": card.input.layout,
            "mean": card.input.mean,
            "scale": card.input.scale,
            "reverse_channels": _reverses(card),
        }


FrontEnd = ModelOptimizer | Ovc


def find_front_end(name: str, mo_args: MoArguments) -> FrontEnd:
    """The front-end `name`: mo, ovc, or auto, which is Model Optimizer if it is installed, else ovc.

    Raises DependencyError if it is not installed, ConversionError for `mo_args` with ovc.
    """
    require_openvino()
    has_mo = has_model_optimizer()
    if name == "mo" and not has_mo:
        # Do not advise ovc: rebuild must use the front-end of its manifest.
        raise DependencyError("Model Optimizer is not installed", "Install it with pip install 'pspnet-convert[mo]'.")
    if name == "mo" or (name == "auto" and has_mo):
        return ModelOptimizer(mo_args)
    if mo_args:
        raise ConversionError(
            f"--mo-arg {min(mo_args)}: is for Model Optimizer, but the front-end is ovc",
            "Leave it out, or install Model Optimizer and use --front-end mo.",
        )
    return Ovc()


def model_optimizer_arguments(card: ModelCard, outputs: Sequence[str]) -> dict[str, Any]:
    """The card's settings as Model Optimizer's arguments. Mean and scale are in the ONNX's colour order."""
    name = card.input.name
    return {
        "input": name,
        "layout": f"{name}({card.input.layout})",
        "mean_values": f"{name}[{_written(card.input.mean)}]",
        "scale_values": f"{name}[{_written(card.input.scale)}]",
        "reverse_input_channels": _reverses(card),
        "output": ",".join(outputs),
    }


def _written(values: Sequence[float]) -> str:
    """Model Optimizer does not read exponents."""
    return ",".join(np.format_float_positional(value, trim="0") for value in values)


def _reverses(card: ModelCard) -> bool:
    return card.input.color_order != card.input.converted_color_order
