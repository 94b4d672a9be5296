"""A wrong layer as a small model, with its input, saved so that it can be reported to the runtime's makers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.commands.verify.right_graph import error_between
from pspnet_convert.files import writing
from pspnet_convert.runtimes.layer_taps import LayerTaps, Part
from pspnet_convert.runtimes.logit_error import Error

_RUNS = {
    ".onnx": "import numpy, onnxruntime\n"
    'found = onnxruntime.InferenceSession("layer.onnx").run(None, dict(numpy.load("inputs.npz")))[0]\n',
    ".xml": "import numpy, openvino\n"
    'model = openvino.Core().compile_model("layer.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})\n'
    'found = model(dict(numpy.load("inputs.npz")))[0]\n',
}


@dataclass(frozen=True)
class SmallModel:
    """`part` of a model, `inputs` as they are in the whole model, what it gives, and what it should give."""

    part: Part
    inputs: Mapping[str, NDArray[Any]]
    found: NDArray[Any]
    expected: NDArray[Any]

    @property
    def error(self) -> Error:
        return error_between(self.found, self.expected)


def small_model(found: LayerTaps, part: Part, given: NDArray[Any], expected: NDArray[Any]) -> SmallModel:
    """`part` of the model `found`, run alone on what it takes when the model runs on `given`."""
    inner = [name for name in part.inputs if name != found.image]
    inputs = {**(found.run(inner, given) if inner else {}), found.image: given}
    inputs = {name: inputs[name] for name in part.inputs}
    return SmallModel(part, inputs, part.run(inputs), expected)


def save_layer(small: SmallModel, folder: Path) -> Path:
    """Write the model, its inputs, both outputs and how to run it into the new `folder`; gives it. What was there is
    removed. WorkspaceError if it cannot be written."""
    with writing(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        path = small.part.save(folder)
        with (folder / "inputs.npz").open("wb") as file:
            np.savez(file, **small.inputs)  # type: ignore[arg-type]
        with (folder / "outputs.npz").open("wb") as file:
            np.savez(file, found=small.found, expected=small.expected)
        text = (
            "One layer of a converted model, and the tensors that it takes. Run it in this folder:\n\n"
            f"{_RUNS[path.suffix]}\n"
            "outputs.npz has what it gave (found) and what it should give (expected).\n"
        )
        (folder / "README.txt").write_text(text, encoding="utf-8")
    return folder
