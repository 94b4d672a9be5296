"""Quantize an FP32 IR to INT8 with NNCF, in a child process, and choose the images that calibrate it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.in_words import ir_input_text
from pspnet_convert.child_process import run_in_child
from pspnet_convert.commands.quantize.image_files import evenly_spread, find_images, usable_images
from pspnet_convert.commands.quantize.options import QuantizeOptions
from pspnet_convert.commands.quantize.recipe import PLAIN_RECIPE, Recipe, matching_layers
from pspnet_convert.errors import ImageError, OptionError, QuantizationError
from pspnet_convert.runtimes.backends import read_ir
from pspnet_convert.runtimes.images import SAMPLES
from pspnet_convert.runtimes.input_form import ImageShape, InputForm
from pspnet_convert.runtimes.io_signature import check_signature, ir_signature
from pspnet_convert.runtimes.nncf_install import require_nncf
from pspnet_convert.runtimes.openvino_install import require_openvino
from pspnet_convert.runtimes.winograd_layers import refuse_winograd

_CHECKED = 8  # images
_NO_LAYERS = ("Parameter", "Constant", "Result")
_CONVOLUTIONS = ("Convolution", "GroupConvolution")


def calibration_images(card: ModelCard, source: Path | None, subset_size: int) -> list[Path]:
    """At most `subset_size` images of `source`, evenly spread over those that the model can be given (usable_images).

    `source`: a folder, or a text file with the path of an image a line. None: the card's data set; if it has none, the
    photographs that come with the tool.
    ImageError for a source without usable images, or where the model does not take photographs.
    """
    is_users = source is not None
    if source is None:
        source = card.folder / card.dataset / "JPEGImages" if card.dataset else SAMPLES
        if source == SAMPLES and not card.input.is_plain_color:
            raise ImageError(
                f"{card.name}: takes other images than the photographs that come with the tool "
                f"({card.input.channels} channels, {ir_input_text(card.input)})",
                "Give a folder of its images with --calibration.",
            )
    found = find_images(source, warns=is_users)
    if not found:
        raise ImageError(f"{source}: has no pictures to calibrate with", "Give others with --calibration.")
    return usable_images(card, found, subset_size)


def checked_images(card: ModelCard, calibration: Sequence[Path]) -> list[Path]:
    """A few of the calibration's images, and of the card's data set, to compare the INT8 IR with the FP32 IR on.

    The data set is needed because a model that was calibrated with black pictures does well on black pictures.
    """
    images = evenly_spread(calibration, _CHECKED)
    if card.dataset is not None:
        images += [path for path in calibration_images(card, None, _CHECKED) if path not in calibration]
    return images


def chosen_recipe(ir: Path, options: QuantizeOptions) -> Recipe:
    """What `options` ask for, for the FP32 IR `ir`.

    OptionError for a pattern of --ignore-layer that matches no layer, or where none is left to quantize; ArtifactError
    where `ir` cannot be read.
    """
    if not options.ignore_layer:
        return Recipe.of(options, ())
    require_openvino()
    import openvino

    nodes = read_ir(openvino.Core(), ir).get_ordered_ops()
    names = [node.get_friendly_name() for node in nodes if node.get_type_name() not in _NO_LAYERS]
    ignored = matching_layers(names, options.ignore_layer)
    convolutions = {node.get_friendly_name() for node in nodes if node.get_type_name() in _CONVOLUTIONS}
    if convolutions <= set(ignored):
        raise OptionError("--ignore-layer leaves no convolution to quantize", "Name fewer layers.")
    return Recipe.of(options, ignored)


def write_int8(
    ir: Path,
    card: ModelCard,
    shape: ImageShape,
    form: InputForm,
    images: Sequence[Path],
    target: Path,
    note: Callable[[], None] = lambda: None,
    *,
    recipe: Recipe = PLAIN_RECIPE,
) -> None:
    """Quantize the FP32 IR `ir`, calibrated with `images`, and save it at `target` (.xml, and its .bin).

    Inputs and outputs stay those of the FP32 IR: images of `shape` in `form`. `note` is called after each picture.
    DependencyError without NNCF; ArtifactError for an IR without the card's names and shapes, or with Winograd layers;
    QuantizationError with NNCF's message if NNCF fails.
    """
    require_openvino()
    require_nncf()
    import openvino

    model = read_ir(openvino.Core(), ir)
    check_signature(ir, ir_signature(model), card, shape, form)
    refuse_winograd(ir, model)
    request = {
        "model": str(ir),
        "input": card.input.model_dump(mode="json"),
        "testing": card.mmseg_test.model_dump(mode="json") if card.mmseg_test else None,
        "shape": list(shape),
        "form": asdict(form),
        "images": [str(path) for path in images],
        "recipe": recipe.as_record(),
        "target": str(target),
    }
    error = run_in_child("commands.quantize.run_nncf", request, "NNCF", note)
    if error:
        raise QuantizationError(f"{ir}: NNCF refuses: {error}", "Use --debug to see all of its output.")
