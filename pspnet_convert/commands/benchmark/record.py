"""The figures of a benchmark as the manifest holds them, for the report page."""

from __future__ import annotations

from typing import Any

from pspnet_convert.commands.benchmark.figures import Timing
from pspnet_convert.commands.benchmark.layers import LayerTimes
from pspnet_convert.commands.benchmark.result import Benchmark
from pspnet_convert.commands.benchmark.startup import Startup
from pspnet_convert.commands.benchmark.throughput import Throughput
from pspnet_convert.image_shape import ImageShape
from pspnet_convert.tables import precision_words

_LONGEST = 10  # layers of a model


def as_record(found: Benchmark, shape: ImageShape) -> dict[str, Any]:
    """Plain values; of each model's layers those that take longest."""
    return {
        "shape": list(shape),
        "rounds": found.rounds,
        "remarks": list(found.remarks),
        "timings": [_timing(row) for row in found.timings],
        "throughput": [_throughput(row) for row in found.throughput],
        "startup": [_start(row) for row in found.startup],
        "layers": [_layers(row) for row in found.layers],
    }


def _timing(row: Timing) -> dict[str, Any]:
    return {
        "model": f"{row.runtime} {row.graph} {row.weights}",
        "precision": precision_words(row.at, row.precision),
        "processor": row.processor,
        "median_ms": row.median_ms,
        "images_per_second": row.images_per_second,
        "ratio": None if row.ratio is None else row.ratio.median,
        "peak_memory_mb": row.peak_memory_mb,
    }


def _throughput(row: Throughput) -> dict[str, Any]:
    return {
        "model": _ir(row),
        "precision": precision_words(row.at, row.precision),
        "requests": row.requests,
        "images_per_second": row.images_per_second,
        "one_images_per_second": row.one_images_per_second,
    }


def _start(row: Startup) -> dict[str, Any]:
    steps = {name: getattr(row, name) for name in ("import_ms", "read_ms", "compile_ms", "first_ms")}
    return {"model": f"{_ir(row)} at {row.at}", "cached": row.cache_mb is not None, **steps}


def _layers(row: LayerTimes) -> dict[str, Any]:
    longest = sorted(row.layers, key=lambda layer: -layer.ms)[:_LONGEST]
    return {
        "model": _ir(row),
        "precision": precision_words(row.at, row.precision),
        "all_ms": row.profiled_ms,
        "longest": [
            {"name": layer.name, "kernel": layer.kernel, "ms": layer.ms, "part": layer.ms / row.profiled_ms}
            for layer in longest
        ],
    }


def _ir(row: Throughput | Startup | LayerTimes) -> str:
    return f"IR {row.graph} {row.weights}"
