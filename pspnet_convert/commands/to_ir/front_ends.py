"""What turns ONNX into IR: Model Optimizer, or OpenVINO's own converter (ovc), and which of them is used.

Each works in a process of its own (mo_process.py, ovc_process.py), and both give the same names, shapes and answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ConversionError, DependencyError
from pspnet_convert.runtimes.openvino_install import has_model_optimizer, require_openvino

MoArguments = Mapping[str, str | bool]


@dataclass(frozen=True)
class ModelOptimizer:
    """Ended with OpenVINO 2024.6. `mo_args`: further arguments, by their Python names."""

    name: ClassVar[str] = "mo"
    label: ClassVar[str] = "Model Optimizer"
    module: ClassVar[str] = "commands.to_ir.model_optimizer"
    tools: ClassVar[tuple[str, ...]] = ("openvino", "openvino-dev")
    mo_args: MoArguments = field(default_factory=dict)

    def arguments(self, card: ModelCard) -> dict[str, Any]:
        """What the card says, in its terms, and `mo_args`; ConversionError for one of those that the card sets."""
        arguments = model_optimizer_arguments(card)
        known = sorted(set(arguments) & set(self.mo_args))
        if known:
            raise ConversionError(
                f"--mo-arg {known[0]}: is set from the card ({arguments[known[0]]!r})", "Change the card instead."
            )
        return {**arguments, **self.mo_args}


@dataclass(frozen=True)
class Ovc:
    """Comes with every OpenVINO: `openvino.convert_model`, and its PrePostProcessor for what the card says."""

    name: ClassVar[str] = "ovc"
    label: ClassVar[str] = "ovc"
    module: ClassVar[str] = "commands.to_ir.ovc"
    tools: ClassVar[tuple[str, ...]] = ("openvino",)
    mo_args: ClassVar[MoArguments] = {}

    def arguments(self, card: ModelCard) -> dict[str, Any]:
        """What the card says of its input. Mean and scale are in the ONNX's own colour order."""
        return {
            "input": card.input.name,
            "layout": card.input.layout,
            "mean": card.input.mean,
            "scale": card.input.scale,
            "reverse_channels": _reverses(card),
        }


FrontEnd = ModelOptimizer | Ovc


def find_front_end(name: str, mo_args: MoArguments) -> FrontEnd:
    """The front-end `name`: mo, ovc, or auto, which is Model Optimizer where it is installed, else ovc.

    DependencyError for one that is not installed, ConversionError for `mo_args` that ovc would have to take.
    """
    require_openvino()
    has_mo = has_model_optimizer()
    if name == "mo" and not has_mo:
        # Not every command that comes here could take ovc instead: rebuild does as its manifest says.
        raise DependencyError("Model Optimizer is not installed", "Install it with pip install 'pspnet-convert[mo]'.")
    if name == "mo" or (name == "auto" and has_mo):
        return ModelOptimizer(mo_args)
    if mo_args:
        raise ConversionError(
            f"--mo-arg {min(mo_args)}: is for Model Optimizer, and the front-end is ovc",
            "Leave it out, or take --front-end mo where Model Optimizer is installed.",
        )
    return Ovc()


def model_optimizer_arguments(card: ModelCard) -> dict[str, Any]:
    """What the card says, in Model Optimizer's terms. Mean and scale are in the ONNX's own colour order."""
    name = card.input.name
    return {
        "input": name,
        "layout": f"{name}({card.input.layout})",
        "mean_values": f"{name}[{','.join(str(value) for value in card.input.mean)}]",
        "scale_values": f"{name}[{','.join(str(value) for value in card.input.scale)}]",
        "reverse_input_channels": _reverses(card),
        "output": card.output.name,
    }


def _reverses(card: ModelCard) -> bool:
    return card.input.color_order != card.input.converted_color_order
