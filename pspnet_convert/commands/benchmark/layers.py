"""The time of each layer of an IR as OpenVINO executes it, next to the same model's latency without its profile.

A layer here is one that OpenVINO runs: it fuses, adds and leaves out layers of the IR.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pspnet_convert.commands.benchmark.figures import Setting
from pspnet_convert.commands.benchmark.limits import Limit
from pspnet_convert.device import CPU
from pspnet_convert.runtimes.timing import Contestant, Subject, computed_in, ir_settings, noise

if TYPE_CHECKING:
    import openvino

    from pspnet_convert.cards.card import ModelCard
    from pspnet_convert.runtimes.input_form import ImageShape

_LARGEST_REST = 0.05  # of the latency


@dataclass(frozen=True)
class Layer:
    """`ms`: see LayerTimes. `shape`: of its output. `gflops`: 10^9 operations of its products; 0 where it has none.

    `share`: its GFLOP/s as a part of the limit at the precision of its kernel; None without products or limit, or where
    its time is below the profile's microsecond.
    """

    name: str
    type: str
    kernel: str
    shape: tuple[int, ...]
    ms: float
    gflops: float
    gflops_per_second: float
    share: float | None = None


@dataclass(frozen=True)
class LayerTimes:
    """The layers of one IR, in the order in which they run, and its latencies, in ms.

    All are means of the faster half of the rounds: on a busy machine the slower ones say how busy it was.
    `profiled_ms`: of the runs in which the layers were timed. `latency_ms`: of runs without, which took turns with
    those.
    """

    graph: str
    weights: str
    at: str
    precision: str
    latency_ms: float
    profiled_ms: float
    layers: Sequence[Layer]

    @property
    def sum_ms(self) -> float:
        """All layers together."""
        return sum(layer.ms for layer in self.layers)

    @property
    def remark(self) -> str | None:
        """What the reader must know, where the layers do not sum to the latency; else None."""
        part = self.sum_ms / self.latency_ms
        if abs(part - 1) <= _LARGEST_REST:
            return None
        return (
            f"the layers of IR {self.graph} {self.weights} at {self.at} sum to {part:.0%} of its latency: it is short, "
            "or the machine was busy"
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "sum_ms": self.sum_ms}


def time_layers(setting: Setting, subject: Subject, limits: Sequence[Limit], rounds: int) -> LayerTimes:
    """Time the layers of an IR in `rounds` rounds, after one to warm up. `limits`: those of this processor."""
    with Contestant(subject.name, load_profiled, (setting.card, setting.shape, subject)) as process:
        turns = []
        for _ in range(rounds + 1):
            turns.append(process.call(turn))
            setting.note()
        found = layers_of(turns, process.call(products))
    by_precision = {
        limit.precision: limit.gflops_per_second
        for limit in limits
        if limit.processor is None and subject.device == CPU
    }
    return LayerTimes(
        subject.graph,
        subject.weights,
        subject.at,
        process.precision,
        1000 * float(np.mean(faster_half([one.plain for one in turns[1:]]))),
        1000 * float(np.mean(faster_half([one.profiled for one in turns[1:]]))),
        [_with_share(layer, by_precision) for layer in found],
    )


def faster_half(seconds: Sequence[float]) -> list[float]:
    """The faster half of `seconds`, the fastest first."""
    return sorted(seconds)[: (len(seconds) + 1) // 2]


def _with_share(layer: Layer, limits: Mapping[str, float]) -> Layer:
    limit = limits.get(layer.kernel.lower().rpartition("_")[2])
    if not layer.gflops_per_second or limit is None:
        return layer
    return replace(layer, share=layer.gflops_per_second / limit)


@dataclass(frozen=True)
class Profiled:
    """What the process holds: one model twice, without and with OpenVINO's profile."""

    plain: openvino.InferRequest
    profiled: openvino.InferRequest
    compiled: openvino.CompiledModel  # with the profile
    image: Any
    precision: str


def load_profiled(card: ModelCard, shape: ImageShape, subject: Subject) -> Profiled:
    """Compile the IR of `subject` twice."""
    import openvino

    core = openvino.Core()
    settings = ir_settings(core, subject)
    plain, profiled = (
        core.compile_model(str(subject.path), subject.device, {**settings, "PERF_COUNT": is_profiled})
        for is_profiled in (False, True)
    )
    image = noise(shape, subject)
    return Profiled(
        plain.create_infer_request(),
        profiled.create_infer_request(),
        profiled,
        image,
        computed_in(profiled, subject),
    )


@dataclass(frozen=True)
class Record:
    """A layer in OpenVINO's profile. `mean_ms`: of all runs so far, cut off to whole microseconds."""

    type: str
    kernel: str
    mean_ms: float


@dataclass(frozen=True)
class Turn:
    """Seconds of a run without and of one with the profile, and the layers in that: by name, in their order."""

    plain: float
    profiled: float
    profile: Mapping[str, Record]


def turn(loaded: Profiled) -> Turn:
    """Run both."""
    seconds = []
    for request in (loaded.plain, loaded.profiled):
        start = time.perf_counter()
        request.infer([loaded.image])
        seconds.append(time.perf_counter() - start)
    return Turn(
        seconds[0],
        seconds[1],
        {
            one.node_name: Record(one.node_type, one.exec_type, 1000 * one.real_time.total_seconds())
            for one in loaded.profiled.get_profiling_info()
            if one.status == one.Status.EXECUTED
        },
    )


def products(loaded: Profiled) -> dict[str, tuple[tuple[int, ...], float]]:
    """The output's shape of each layer, and the operations of its products, by name."""
    found = {}
    for node in loaded.compiled.get_runtime_model().get_ordered_ops():
        if node.get_output_size():
            inputs = [tuple(port.get_shape()) for port in node.inputs()]
            output = tuple(node.get_output_shape(0))
            kind = _text(node.get_rt_info()["layerType"])
            found[node.get_friendly_name()] = (output, operations_of(kind, inputs, output))
    return found


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


def operations_of(kind: str, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> float:
    """The operations of a layer of OpenVINO's type `kind`: two for each product in each sum; 0 for other layers."""
    if kind in ("Convolution", "Deconvolution"):
        # Weights: [out, in, height, width], with groups first [groups, out / groups, ...]; transposed, in before out.
        of_each = prod(inputs[1][len(inputs[1]) - len(output) + 1 :])
        return 2.0 * prod(output if kind == "Convolution" else inputs[0]) * of_each
    if kind.startswith(("MatMul", "FullyConnected")):  # either matrix may be transposed: the first has rows x inner
        return 2.0 * prod(output) * prod(inputs[0][-2:]) / output[-2]
    return 0.0


def layers_of(turns: Sequence[Turn], products: Mapping[str, tuple[tuple[int, ...], float]]) -> list[Layer]:
    """The means of the layers over the faster half of `turns`, without the first, which warmed up."""
    slowest = faster_half([one.profiled for one in turns[1:]])[-1]
    kept = [number for number in range(1, len(turns)) if turns[number].profiled <= slowest]
    found = []
    for name, last in turns[-1].profile.items():
        # One below a microsecond is in the profile as not executed.
        sums = [
            (number + 1) * one.profile[name].mean_ms if name in one.profile else 0.0 for number, one in enumerate(turns)
        ]
        ms = max(0.0, sum(sums[number] - sums[number - 1] for number in kept) / len(kept))
        shape, operations = products.get(name, ((), 0.0))
        speed = operations / ms / 1e6 if ms else 0.0
        found.append(Layer(name, last.type, last.kernel, shape, ms, operations / 1e9, speed))
    return found
