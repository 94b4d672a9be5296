"""Time single 3x3 convolutions in float32, plain and by Winograd's algorithm: where `to-ir --winograd auto` pays.

    python scripts/bench_winograd.py [--layer CHANNELS,OUT,HEIGHT,WIDTH,DILATION ...] [--rounds N]

Each layer is between two 1x1 convolutions with 8 channels on their other side. They take little time, and want maps in
the layout that the plain layer wants too, as in a network. Both forms run in turns on one thread, and the least
processor time of each counts: a busy machine changes it little. ONEDNN_MAX_CPU_ISA=AVX2 in the environment caps the
instructions.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino

from pspnet_convert.commands.to_ir.winograd import LayerShape, rewrite_convolutions
from pspnet_convert.runtimes.openvino_install import operations

THIN = 8
# Those of a PSPNet-R50-D8 at 512x512, then of other sizes of image.
LAYERS = (
    *((64, 64, 128, 128, 1), (128, 128, 64, 64, 1), (256, 256, 64, 64, 2), (512, 512, 64, 64, 4)),
    *((2048, 512, 64, 64, 1), (256, 256, 32, 32, 2), (512, 512, 32, 32, 4), (256, 256, 128, 128, 2)),
)


def convolution(shape: LayerShape) -> openvino.Model:
    """The layer with random weights, of an image [1, THIN, H, W]."""
    taken = operations().parameter([1, THIN, shape.height, shape.width], openvino.Type.f32)
    widened = _convolved(taken, shape.given, THIN, 1, (1, 1))
    made = _convolved(widened, shape.made, shape.given, 3, shape.dilation)
    return openvino.Model([operations().result(_convolved(made, THIN, shape.made, 1, (1, 1)))], [taken])


def _convolved(taken: Any, made: int, given: int, kernel: int, dilation: tuple[int, int]) -> Any:
    weights = np.random.default_rng(0).standard_normal((made, given, kernel, kernel), np.float32)
    padding = [kernel // 2 * one for one in dilation]
    node = operations().convolution(taken, operations().constant(weights), [1, 1], padding, padding, list(dilation))
    return operations().relu(node)


def seconds(shape: LayerShape, rounds: int) -> tuple[float, float]:
    """The processor time of the plain layer, and by Winograd's algorithm."""
    plain, rewritten = convolution(shape), convolution(shape)
    assert rewrite_convolutions(rewritten, "all") == 1
    image = np.random.default_rng(1).random((1, THIN, shape.height, shape.width), np.float32)
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = [openvino.Core().compile_model(model, "CPU", hints) for model in (plain, rewritten)]
    turns = [[_spent(lambda one=one: one(image)) for one in compiled] for _ in range(rounds + 1)]
    first, second = np.array(turns[1:]).min(axis=0)
    return float(first), float(second)


def _spent(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _layer(text: str) -> tuple[int, int, int, int, int]:
    given, made, height, width, dilation = (int(part) for part in text.split(","))
    return given, made, height, width, dilation


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layer", type=_layer, action="append", help="by default those of a PSPNet-R50-D8, and more")
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args(arguments)
    print("channels     map       dilation  plain ms  Winograd ms      x  auto")
    for given, made, height, width, dilation in asked.layer or LAYERS:
        shape = LayerShape(given, made, height, width, (dilation, dilation))
        plain, rewritten = (1000 * one for one in seconds(shape, asked.rounds))
        print(
            f"{f'{given}->{made}':<12} {f'{height}x{width}':<9} {dilation:>8} {plain:>9.1f} {rewritten:>12.1f}"
            f" {plain / rewritten:>6.2f}  {'yes' if shape.pays else 'no'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
