"""The child process in which NNCF quantizes an FP32 IR to INT8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards.card import Input
from pspnet_convert.cards.testing import Testing
from pspnet_convert.child_process import serve_request
from pspnet_convert.commands.quantize.int8_graph import tidy
from pspnet_convert.commands.quantize.recipe import Recipe
from pspnet_convert.runtimes.input_form import Image, InputForm, batches, pad_batch
from pspnet_convert.runtimes.ir_file import save
from pspnet_convert.runtimes.model_images import ModelImages
from pspnet_convert.runtimes.openvino_install import operations

if TYPE_CHECKING:
    import nncf
    import openvino


def convert(request: dict[str, Any], note: Callable[[], None]) -> None:
    """Quantize `model` with the pictures `images` and save it as `target`; `note` after each picture."""
    import nncf
    import openvino

    testing = Testing.model_validate(request["testing"]) if request["testing"] else None
    files = ModelImages(Input.model_validate(request["input"]), testing)
    model = openvino.Core().read_model(request["model"])
    batch, _, height, width = request["shape"]
    form = InputForm(**request["form"])

    seen: set[str] = set()  # SmoothQuant and bias correction read all once more

    def shown(path: str) -> Image:
        image = files.fitted(Path(path), height, width)
        if path not in seen:
            seen.add(path)
            note()
        return image

    # The last picture is repeated until its batch is full. A dynamic batch gets one picture at a time.
    groups = list(batches(request["images"], max(1, batch)))
    images = nncf.Dataset(groups, lambda paths: form.tensor(pad_batch([shown(path) for path in paths], batch)))
    quantized = _quantize(model, images, len(groups), Recipe.from_record(request["recipe"]))
    tidy(quantized)
    if form.type == "u16":
        widen_input(quantized)
    name_by_place(quantized)
    # `compress_to_fp16` does nothing for a model that NNCF has quantized.
    save(quantized, Path(request["target"]), compress_to_fp16=False)


def _quantize(model: openvino.Model, images: nncf.Dataset, count: int, recipe: Recipe) -> openvino.Model:
    import nncf

    smooth = nncf.AdvancedSmoothQuantParameters(convolution=-1 if recipe.smooth is None else recipe.smooth, matmul=-1)
    return nncf.quantize(
        model,
        images,
        subset_size=count,
        preset=nncf.QuantizationPreset(recipe.preset),
        fast_bias_correction=not recipe.accurate_bias,
        # NNCF leaves SmoothQuant out for all other models, without a word.
        model_type=None if recipe.smooth is None else nncf.ModelType.TRANSFORMER,
        # A PSPNet's matrix products are its pyramid's: constant matrices, 1 % of the work. NNCF would quantize them by
        # channel, which OpenVINO's CPU plugin sometimes fails on (`scale.size() == OC`). A transformer's own products
        # stay as they are too.
        ignored_scope=nncf.IgnoredScope(names=list(recipe.ignored), types=["MatMul"], validate=False),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix(recipe.overflow_fix), smooth_quant_alphas=smooth
        ),
    )


def widen_input(model: openvino.Model) -> None:
    """Turn the input's numbers into int32 before anything else.

    OpenVINO's CPU plugin fuses the steps from uint16 to INT8, and then refuses them: "does not support u16".
    """
    (image,) = model.get_parameters()
    targets = list(image.output(0).get_target_inputs())
    wide = operations().convert(image.output(0), "i32")
    for target in targets:
        target.replace_source_output(wide.output(0))


def name_by_place(model: openvino.Model) -> None:
    """Name each node that has no name by its type and its place in the model, so that every run gives the same file.

    OpenVINO's default name has a count of all nodes made in the process. The CPU plugin, which runs in threads for
    NNCF, makes a few more or fewer of them in each run.
    """
    for place, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{node.get_type_name()}/{place}")


if __name__ == "__main__":
    serve_request(convert)
