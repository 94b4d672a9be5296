"""NNCF at work in a process of its own (child_process.py): FP32 IR to INT8, as quantize.py asks.

Knows nothing of workspaces; which pictures to calibrate with is quantize.py's choice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import Input
from pspnet_convert.child_process import serve_request
from pspnet_convert.runtimes.images import fitted_bgr
from pspnet_convert.runtimes.input_form import Image, InputForm, batches, pad_batch
from pspnet_convert.runtimes.ir_file import save
from pspnet_convert.runtimes.openvino_install import operations

if TYPE_CHECKING:
    import openvino


def convert(request: dict[str, Any], note: Callable[[], None]) -> None:
    """Quantize `model` with the pictures `images` and save it as `target`; `note` after each picture."""
    import nncf
    import openvino

    card_input = Input.model_validate(request["input"])
    model = openvino.Core().read_model(request["model"])
    batch, _, height, width = request["shape"]
    form = InputForm(**request["form"])

    def shown(path: str) -> Image:
        image = fitted_bgr(Path(path), height, width, card_input)
        note()
        return image

    # The slots that the last pictures leave are filled with the last one once more. A dynamic batch gets one at a time.
    groups = list(batches(request["images"], max(1, batch)))
    quantized = nncf.quantize(
        model,
        nncf.Dataset(groups, lambda paths: form.tensor(pad_batch([shown(path) for path in paths], batch))),
        subset_size=len(groups),
        # The matrix products of a PSPNet are its pyramid's: constant matrices, 1 % of the work. NNCF would quantize
        # them by the channel, which OpenVINO's CPU plugin has been seen to refuse (`scale.size() == OC`).
        ignored_scope=nncf.IgnoredScope(types=["MatMul"], validate=False),
    )
    compress_matrices(quantized)
    name_by_place(quantized)
    # `compress_to_fp16` does nothing to a model that NNCF has been at.
    save(quantized, Path(request["target"]), compress_to_fp16=False)


def compress_matrices(model: openvino.Model) -> None:
    """Keep the constants of matrix products as float16: a seventh of the full-size file would be theirs otherwise.

    Not one whose values are too small for float16: a pool over a huge map.
    """
    opset13 = operations()
    products = [node for node in model.get_ops() if node.get_type_name() == "MatMul"]
    for factor in [factor for product in products for factor in product.inputs()]:
        constant = factor.get_source_output().get_node()
        if constant.get_type_name() == "Constant" and fits_float16(constant.data):
            half = opset13.constant(constant.data.astype(np.float16))
            factor.replace_source_output(opset13.convert(half, "f32").output(0))


def fits_float16(matrix: NDArray[np.float32]) -> bool:
    """Whether rounding loses at most a thousandth of each row's and column's largest value."""
    with np.errstate(over="ignore"):
        lost = np.abs(matrix.astype(np.float16) - matrix)
    return all((lost.max(axis) <= 1e-3 * np.abs(matrix).max(axis)).all() for axis in (-1, -2))


def name_by_place(model: openvino.Model) -> None:
    """Name each node that no one has named by its type and its place in the model.

    OpenVINO would name it by a count of all the nodes that the process has made, and of those the CPU plugin, at
    work in threads for NNCF, makes a few more or fewer from one run to the next.
    """
    for place, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{node.get_type_name()}/{place}")


if __name__ == "__main__":
    serve_request(convert)
