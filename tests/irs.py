"""The IRs that both front-ends make of one ONNX: the same inputs and outputs, and the same answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.to_ir.convert import convert_to_ir
from pspnet_convert.commands.to_ir.front_ends import ModelOptimizer, Ovc
from pspnet_convert.image_shape import ImageShape
from pspnet_convert.runtimes.backends import OpenVinoBackend
from pspnet_convert.runtimes.images import SAMPLES
from pspnet_convert.runtimes.input_form import PLAIN, InputForm
from pspnet_convert.runtimes.logits_tap import ir_logits
from pspnet_convert.runtimes.model_images import ModelImages


def by_both(
    onnx: Path, card: ModelCard, folder: Path, shape: ImageShape | None = None, form: InputForm = PLAIN
) -> dict[str, dict[str, Path]]:
    """The IRs of `onnx`, which is for images of `shape`, by mo and ovc, each at FP32 and FP16."""
    made = {}
    for front_end in (ModelOptimizer(), Ovc()):
        (folder / front_end.name).mkdir()
        made[front_end.name] = {
            precision: folder / front_end.name / f"{precision}.xml" for precision in ("FP32", "FP16")
        }
        convert_to_ir(onnx, card, made[front_end.name], front_end, shape, form)
    return made


def with_logits(ir: Path, target: Path) -> Path:
    """The IR with one more output, `logits`, as `target`."""
    model = openvino.Core().read_model(str(ir))
    (output,) = model.add_outputs(ir_logits(model, ir))
    output.get_tensor().set_names({"logits"})
    openvino.save_model(model, str(target), compress_to_fp16=False)
    return target


def assert_equal_from_outside(one: Path, other: Path) -> None:
    assert _described(one) == _described(other)
    sizes = [path.with_suffix(".bin").stat().st_size for path in (one, other)]
    assert abs(sizes[0] - sizes[1]) < 200  # one front-end folds the constants before the network, the other does not


def assert_equal_label_maps(
    one: Path,
    other: Path,
    card: ModelCard,
    photo: Path,
    shape: ImageShape | None = None,
    form: InputForm = PLAIN,
) -> None:
    """On `photo` and a flat grey with noise, at f32."""
    height, width = card.input.shape[2:]
    noise = np.random.default_rng(5).integers(90, 160, (height, width, 3), dtype=np.uint8)
    images = [ModelImages.of(card).fitted(photo, height, width), noise]
    answers = [OpenVinoBackend(path, card, shape, form).run(images) for path in (one, other)]
    seen: set[int] = set()
    for first, second in zip(*answers):
        assert np.array_equal(first.labels, second.labels)
        seen.update(np.unique(first.labels).tolist())
    assert len(seen) > 1


def _described(path: Path) -> Mapping[str, Any]:
    model = openvino.Core().read_model(str(path))
    (given,), (found,) = model.inputs, model.outputs
    return {
        "names": [given.get_names(), found.get_names()],
        "friendly names": [
            given.get_node().get_friendly_name(),
            found.get_node().input_value(0).get_node().get_friendly_name(),
        ],
        "shapes": [str(given.partial_shape), str(found.partial_shape)],
        "types": [given.get_element_type(), found.get_element_type()],
        "layout": given.get_node().get_layout().to_string(),
        "model_info": {
            name: value.astype(str) for name, value in model.get_rt_info(["model_info"]).astype(dict).items()
        },
    }


PHOTO = SAMPLES / "chelsea.jpg"
