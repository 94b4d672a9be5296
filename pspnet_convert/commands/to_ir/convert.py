"""Convert ONNX to OpenVINO IR, which takes images as they are stored (colours as BGR), under the ONNX's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pspnet_convert.cards.card import AS_STORED, ModelCard
from pspnet_convert.child_process import run_in_child
from pspnet_convert.commands.to_ir.front_ends import FrontEnd
from pspnet_convert.commands.to_ir.options import Winograd
from pspnet_convert.errors import ConversionError
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.runtimes.io_signature import check_signature, onnx_signature, read_onnx
from pspnet_convert.runtimes.output_form import OutputForm


def convert_to_ir(
    onnx_path: Path,
    card: ModelCard,
    targets: Mapping[str, Path],
    front_end: FrontEnd,
    shape: ImageShape | None = None,
    form: InputForm = PLAIN,
    *,
    gives: OutputForm | None = None,
    winograd: Winograd = "off",
) -> None:
    """Convert once and save at each precision of `targets` (FP32, or FP16: weights compressed) as .xml and .bin.

    The ONNX takes images of `shape` (default: the card's); the IR takes them in `form`. For `gives` see
    check_signature. `winograd`: which convolutions are rewritten (winograd.py). Raises ArtifactError if the ONNX has
    other names than the card or another shape, ConversionError with the front-end's message if it refuses, OSError if
    the disk does.
    """
    signature = onnx_signature(read_onnx(onnx_path))
    check_signature(onnx_path, signature, card, shape or card.input.shape, gives=gives)
    outputs = [name for spec in signature[1] for name in spec.names]
    request = {
        "onnx": str(onnx_path),
        "arguments": front_end.arguments(card, outputs),
        "labels": card.output.name,
        "form": asdict(form),
        "keeps_float32_input": card.input.needs_float32,
        "model_info": model_api_settings(card),
        "winograd": winograd,
        "targets": {precision: str(path) for precision, path in targets.items()},
    }
    error = run_in_child(front_end.module, request, front_end.label)
    if error:
        raise ConversionError(f"{onnx_path}: {front_end.label} refuses: {error}", "--debug shows its whole output.")


def model_api_settings(card: ModelCard) -> dict[str, str]:
    """The settings that OpenVINO's Model API reads from an IR's `model_info`, so that its user need not give them.

    Mean, scale and channel order are in the graph instead; Model API passes BGR, as the IR takes it.
    An IR whose channels are no colours has `channel_order` as well. Model API does not read it: it is for people.
    """
    order = {} if card.input.is_color else {"channel_order": AS_STORED}
    return {
        "model_type": "Segmentation",
        # A list is separated by blanks.
        "labels": " ".join("_".join(name.split()) for name in card.class_names),
        # Stretched: Model API resizes the whole label map to the image's size, and does not know padding.
        "resize_type": "standard",
        "reverse_input_channels": "False",
        "return_soft_prediction": "False",
        **order,
    }
