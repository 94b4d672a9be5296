"""From ONNX to OpenVINO IR, by Model Optimizer: the IR takes plain BGR 0..255 under the ONNX's names.

Model Optimizer runs in a process of its own (mo_process.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional, Union

from pspnet_convert.card import Input, ModelCard
from pspnet_convert.contract import check_ports, onnx_ports, read_onnx
from pspnet_convert.errors import ConversionError
from pspnet_convert.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.own_process import ask

MoArguments = Mapping[str, Union[str, bool]]


def convert_to_ir(
    onnx_path: Path,
    card: ModelCard,
    targets: Mapping[str, Path],
    mo_args: MoArguments,
    shape: Optional[ImageShape] = None,
    form: InputForm = PLAIN,
) -> None:
    """Convert once and save at each precision of `targets` (FP32, or FP16: weights compressed) as .xml and .bin.

    The ONNX is for images of `shape` (the card's where None is given), which the IR takes in `form`. `mo_args` are
    further arguments of Model Optimizer, by their Python names. Raises ArtifactError for an ONNX without the card's
    names or of another shape, ConversionError with Model Optimizer's own words where it refuses, OSError where the disk
    does.
    """
    check_ports(onnx_path, onnx_ports(read_onnx(onnx_path)), card, shape or card.input.shape)
    arguments: dict[str, Any] = model_optimizer_arguments(card.input, card.output.name)
    known = sorted(set(arguments) & set(mo_args))
    if known:
        raise ConversionError(
            f"--mo-arg {known[0]}: is set from the card ({arguments[known[0]]!r})", "Change the card instead."
        )
    request = {
        "input_model": str(onnx_path),
        "arguments": {**arguments, **mo_args},
        "form": asdict(form),
        "model_info": model_api_settings(card),
        "targets": {precision: str(path) for precision, path in targets.items()},
    }
    error = ask("mo_process", request, "Model Optimizer")
    if error:
        raise ConversionError(f"{onnx_path}: Model Optimizer refuses: {error}", "--debug shows all that it says.")


def model_optimizer_arguments(card_input: Input, output: str) -> dict[str, Any]:
    """What the card says, in Model Optimizer's terms. Mean and scale are in the ONNX's own colour order."""
    name = card_input.name
    return {
        "input": name,
        "layout": f"{name}({card_input.layout})",
        "mean_values": f"{name}[{','.join(str(value) for value in card_input.mean)}]",
        "scale_values": f"{name}[{','.join(str(value) for value in card_input.scale)}]",
        "reverse_input_channels": card_input.color_order != card_input.converted_color_order,
        "output": output,
    }


def model_api_settings(card: ModelCard) -> dict[str, str]:
    """What OpenVINO's Model API reads from an IR's `model_info`, so that it needs no settings of its user's.

    No mean, scale or order of channels: they are in the graph, and Model API hands over BGR, as the IR takes it.
    """
    return {
        "model_type": "Segmentation",
        # A list is separated by blanks.
        "labels": " ".join("_".join(name.split()) for name in card.class_names),
        # Stretched: Model API lays the whole label map over the picture again, and knows of no padding.
        "resize_type": "standard",
        "reverse_input_channels": "False",
        "return_soft_prediction": "False",
    }
