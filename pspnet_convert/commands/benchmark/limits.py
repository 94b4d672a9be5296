"""The processor's limit: the fastest matrix product that OpenVINO itself reaches here, at each precision.

A product of [rows, inner] with constant weights [inner, columns], as in a 1x1 convolution of `inner` to `columns`
channels over `rows` pixels. It is run in both forms, since they have kernels of their own, at several sizes, on all
cores. Its time is that of its layer alone, from OpenVINO's profile.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pspnet_convert.commands.benchmark.theory import Theory, theoretical
from pspnet_convert.runtimes.openvino_install import operations
from pspnet_convert.runtimes.timing import Contestant

if TYPE_CHECKING:
    import openvino

_FORMS = ("MatMul", "Convolution")
# rows, inner, columns. The small ones are over before a busy machine interrupts them.
_SIZES = ((512, 512, 512), (1024, 1024, 1024), (4096, 2048, 512))
_SECONDS = 0.05  # of each product in a turn; at least one run
_MOST_RUNS = 10
_SHORTEST = 1e-4  # seconds for each run so far: the clock's error is 1 %
_LAYERS = ("MatMul", "FullyConnected", "Convolution")  # how OpenVINO's names of a product's layer begin
_MAP_HEIGHT = 64  # of the convolution's image: `rows` pixels
_LEVELS = 256
_MLAS = "mlas"  # the kernels of another library, which a cap on oneDNN's instructions does not change


@dataclass(frozen=True)
class Limit:
    """`gflops_per_second`: of the fastest product, in 10^9 operations; `kernel`, `form`, `size`: which one it was.

    `precision`: f32, bf16, f16 or i8. `processor`: the instruction set to which the process was capped; None for this
    processor as it is. `theory`: None where clock or instructions are not known.
    """

    precision: str
    processor: str | None
    gflops_per_second: float
    kernel: str
    form: str
    size: tuple[int, int, int]
    theory: Theory | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def multiplied_in(precision: str) -> str:
    """What a model that computes in `precision` multiplies in: i8 for i8+f32."""
    return precision.partition("+")[0]


def products(precisions: Sequence[str], processor: str | None) -> Contestant:
    """A process that runs all products at each of `precisions` (f32, bf16, f16, i8) in one turn."""
    wanted = sorted({multiplied_in(one) for one in precisions})
    return Contestant("OpenVINO's matrix product", load_products, (wanted, processor), processor)


def limits(running: Contestant, processor: str | None) -> dict[str, Limit]:
    """The fastest product of all turns so far, by precision. One that no kernel of its precision ran is left out."""
    found: Mapping[str, Limit] = running.call(fastest)
    return {name: replace(one, theory=theoretical(name, processor)) for name, one in found.items()}


class _Product:
    """One product, and its fastest run so far."""

    def __init__(self, limit: Limit) -> None:
        self.best = limit
        self._model = _model(limit.precision, limit.form, limit.size)
        self._operations = 2.0 * prod(limit.size)

    def run(self, core: openvino.Core) -> None:
        """Some runs, after one to warm up.

        The profile has the mean of all runs since the model was compiled, cut off to whole microseconds: after n runs
        their sum is known to n. So the model is compiled anew, runs a few times, and a run that is too short for that
        clock does not count.
        """
        hint = "f32" if self.best.precision == "i8" else self.best.precision
        settings = {"INFERENCE_PRECISION_HINT": hint, "PERF_COUNT": True}
        compiled = core.compile_model(self._model, "CPU", settings)
        request = compiled.create_infer_request()
        image = np.random.default_rng(0).random(compiled.inputs[0].shape, np.float32)
        end = time.perf_counter() + _SECONDS
        before = 0.0
        for runs in range(1, _MOST_RUNS + 1):
            request.infer([image], share_inputs=True)
            layer = next(one for one in request.get_profiling_info() if one.node_type.startswith(_LAYERS))
            total = runs * layer.real_time.total_seconds()
            if runs > 1 and total - before > runs * _SHORTEST:
                speed = self._operations / (total - before) / 1e9
                if speed > self.best.gflops_per_second:
                    self.best = replace(self.best, gflops_per_second=speed, kernel=layer.exec_type)
            before = total
            if runs > 1 and time.perf_counter() > end:
                break


@dataclass(frozen=True)
class Products:
    """What the process holds; see timing.Loaded."""

    core: openvino.Core
    all: Sequence[_Product]
    precision: str = "of each product"

    def run(self) -> None:
        for product in self.all:
            product.run(self.core)


def load_products(precisions: Sequence[str], processor: str | None) -> Products:
    """Each product, at each precision."""
    import openvino

    wanted = itertools.product(precisions, _FORMS, _SIZES)
    return Products(
        openvino.Core(),
        [_Product(Limit(precision, processor, 0.0, "", form, size)) for precision, form, size in wanted],
    )


def fastest(loaded: Products) -> dict[str, Limit]:
    """See `limits`."""
    found: dict[str, Limit] = {}
    for product in loaded.all:
        one = product.best
        # MLAS runs with any instructions that the processor has, whatever the cap.
        is_right = one.kernel.lower().endswith(f"_{one.precision}") and not (one.processor and _MLAS in one.kernel)
        if is_right and (one.precision not in found or one.gflops_per_second > found[one.precision].gflops_per_second):
            found[one.precision] = one
    return found


def _model(precision: str, form: str, size: tuple[int, int, int]) -> openvino.Model:
    import openvino

    ops = operations()
    rows, inner, columns = size
    is_matrix = form == "MatMul"
    shape = [rows, inner] if is_matrix else [1, inner, _MAP_HEIGHT, rows // _MAP_HEIGHT]
    image = ops.parameter(shape, np.float32)
    values = np.random.default_rng(0).integers(-127, 128, (columns, inner) if is_matrix else (columns, inner, 1, 1))
    left, right = image, ops.constant((values / 127).astype(np.float32))
    if precision == "i8":  # as NNCF writes it: unsigned images, as after a ReLU; signed weights, a scale each channel
        low, high = np.float32(0), np.float32(1)
        left = ops.fake_quantize(image, low, high, low, high, _LEVELS)
        scales = np.full((columns, *[1] * (values.ndim - 1)), 1 / 127, np.float32)
        right = ops.multiply(ops.convert(ops.constant(values.astype(np.int8)), "f32"), ops.constant(scales))
    if is_matrix:
        product = ops.matmul(left, right, transpose_a=False, transpose_b=True)
    else:
        product = ops.convolution(left, right, [1, 1], [0, 0], [0, 0], [1, 1])
    return openvino.Model([product], [image], "product")
