"""IRs whose label map is the first channel of the image, which is blue: what a program gives a model shows in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from PIL import Image

from pspnet_convert.runtimes.openvino_install import operations

Bytes = NDArray[np.uint8]
LABEL_MAP = "segmentation_map"


def save_blue_model(
    path: Path,
    size: tuple[int, int] = (40, 56),
    *,
    batch: int = 1,
    type: str = "f32",
    layout: str = "NCHW",
    label_type: str = "i64",
    precision: str | None = None,
    probabilities: bool = False,
) -> Path:
    """The IR at `path`, for images of `size` (rows, columns). A `batch` of -1 is dynamic.

    `precision`: what its metadata says that it is made for. `probabilities`: it has such an output too, before labels.
    """
    ops = operations()
    axes = {"N": batch, "C": 3, "H": size[0], "W": size[1]}
    image = ops.parameter(openvino.PartialShape([axes[axis] for axis in layout]), getattr(openvino.Type, type), "image")
    image.output(0).set_names({"input.1"})
    image.set_layout(openvino.Layout(layout))
    channels = ops.gather(image, np.array([0]), np.array(layout.index("C")))
    planes = ops.transpose(channels, np.array([layout.index(axis) for axis in "NCHW"]))
    labels = ops.convert(planes, label_type)
    labels.output(0).set_names({LABEL_MAP})
    results = [ops.result(labels)]
    if probabilities:
        wide = ops.convert(planes, "f32")
        wide.output(0).set_names({"probabilities"})
        results = [ops.result(wide), *results]
    model = openvino.Model(results, [image], "blue")
    model.set_rt_info(" ".join(f"c{number}" for number in range(256)), ["model_info", "labels"])
    if precision is not None:
        model.set_rt_info(precision, ["runtime_options", "INFERENCE_PRECISION_HINT"])
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


def save_noise(path: Path, size: tuple[int, int], seed: int = 0) -> Bytes:
    """A picture of `size` (rows, columns) with random colours, in a format without losses; its RGB values."""
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return values


def blue_of(rgb: Bytes, *sizes: tuple[int, int]) -> Bytes:
    """The label map that such a model gives for a picture which Pillow stretches to each of `sizes` (rows, columns)."""
    picture = Image.fromarray(rgb)
    for rows, columns in sizes:
        picture = picture.resize((columns, rows), Image.Resampling.BILINEAR)
    return np.asarray(picture)[:, :, 2]
