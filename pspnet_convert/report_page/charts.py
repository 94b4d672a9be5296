"""The values of the page's charts: of the bars, and of the plot of what quantize --max-drop tried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

from pspnet_convert.manifest_document import Stages
from pspnet_convert.manifest_fields import (
    BenchmarkResult,
    Score,
    SearchResult,
    Timed,
    TimedLayer,
    TimedLayers,
    TimedStart,
    TimedThroughput,
    Tried,
)
from pspnet_convert.pipeline import BENCHMARK, SEARCH
from pspnet_convert.report_page.words import in_bytes


@dataclass(frozen=True)
class Bar:
    """`length`: 0..100, in per cent of the chart's scale. `is_ir`: drawn in the accent colour."""

    label: str
    value: str
    length: float
    is_ir: bool


@dataclass(frozen=True)
class Point:
    """One way of quantizing in the plot. `x`: 0..100, faster is farther; `y`: 0..100, a larger loss is lower."""

    number: int
    tried: Tried
    x: float
    y: float
    is_chosen: bool


@dataclass(frozen=True)
class Plot:
    """Loss of mean IoU over speed. `line`: where the allowed loss is, in per cent of the height.

    `frontier`: from point to point, those that no other one beats in both; slowest first.
    """

    points: Sequence[Point]
    frontier: Sequence[tuple[Point, Point]]
    line: float


def tried(stages: Stages) -> Plot | None:
    """What the search for an INT8 IR has tried; None if there was no search."""
    if SEARCH not in stages or not stages[SEARCH].result.tried:
        return None
    result: SearchResult = stages[SEARCH].result
    speeds = [one.speed for one in result.tried]
    drops = [0.0, result.max_drop, *(one.drop for one in result.tried)]
    # A later `quantize` may have made another IR, also by the same recipe with other images.
    search, made = stages[SEARCH].inputs, stages["quantize"].inputs if "quantize" in stages else None
    recipe = made.recipe if made is not None and made.images == search.images else None
    points = [
        Point(number, one, _place(one.speed, speeds), _place(one.drop, drops), one.recipe == recipe)
        for number, one in enumerate(result.tried, 1)
    ]
    best = [point for point in points if not any(_beats(other.tried, point.tried) for other in points)]
    best.sort(key=lambda point: point.x)
    return Plot(points, list(pairwise(best)), _place(result.max_drop, drops))


def _beats(one: Tried, other: Tried) -> bool:
    """Whether `one` is better in speed or loss, and no worse in the other."""
    return one.speed >= other.speed and one.drop <= other.drop and (one.speed, one.drop) != (other.speed, other.drop)


def _place(value: float, values: Sequence[float]) -> float:
    """Where `value` is between the smallest and the largest of `values`, in 8..92; in the middle if they are one."""
    low, high = min(values), max(values)
    return 50.0 if low == high else 8 + 84 * (value - low) / (high - low)


def sizes(stages: Stages) -> list[Bar]:
    """The bytes of the checkpoint, the ONNX and each IR (its two files together)."""
    found: dict[str, int] = {}
    for stage, record in stages.items():
        for output in record.outputs:
            label = _artifact(stage, PurePosixPath(output.file))
            if label is not None:
                found[label] = found.get(label, 0) + output.size
    return _bars((label, size, in_bytes(size)) for label, size in found.items())


def accuracies(stages: Stages) -> list[Bar]:
    """Each model's measured mean IoU, in per cent; in brackets its difference from the reference."""
    scores = stages["evaluate"].result.scores if "evaluate" in stages else []
    return _bars(((one.backend, one.mean_iou, _points(one)) for one in scores), longest=100)


def _points(score: Score) -> str:
    mean_iou = f"{score.mean_iou:.2f} %"
    if score.drop is None:
        return mean_iou
    return f"{mean_iou} ({0 - round(score.drop, 2):+.2f})"


def latencies(stages: Stages) -> list[Bar]:
    """Milliseconds for one image, as measured by verify-int8."""
    rows = stages["verify-int8"].result.latency if "verify-int8" in stages else []
    return _bars(
        (
            f"IR {row.weights}, computed in {row.precision}",
            row.median_ms,
            f"{row.median_ms:.1f} ms ({row.ratio:.1f} x as fast)",
        )
        for row in rows
    )


def benchmark(stages: Stages) -> list[tuple[str, list[Bar]]]:
    """What `benchmark` measured, each chart with its title; one without bars was not asked for."""
    if BENCHMARK not in stages:
        return []
    found: BenchmarkResult = stages[BENCHMARK].result
    return [
        ("Time", _bars((_label(row), row.median_ms, _time(row)) for row in found.timings)),
        (
            "Largest memory of the process",
            _bars((_label(row), row.peak_memory_mb, f"{row.peak_memory_mb:.0f} MB") for row in found.timings),
        ),
        ("Throughput", _bars(bar for row in found.throughput for bar in _one_and_several(row))),
        ("From nothing to the first answer", _bars(_start(row) for row in found.startup)),
        *((_title(row), _bars(_layer(layer) for layer in row.longest)) for row in found.layers),
    ]


def _label(row: Timed) -> str:
    return f"{row.model}, {row.precision}" + (f" on {row.processor}" if row.processor else "")


def _time(row: Timed) -> str:
    return f"{row.median_ms:.1f} ms" + (f" ({row.ratio:.2f} x as fast)" if row.ratio else "")


def _one_and_several(row: TimedThroughput) -> Iterator[tuple[str, float, str]]:
    for words, value in (
        ("one request", row.one_images_per_second),
        (f"{row.requests} requests", row.images_per_second),
    ):
        yield f"{row.model}, {row.precision}: {words}", value, f"{value:.1f} images/s"


def _start(row: TimedStart) -> tuple[str, float, str]:
    steps = {"import": row.import_ms, "read": row.read_ms, "compile": row.compile_ms, "first answer": row.first_ms}
    words = " + ".join(f"{name} {value:.0f}" for name, value in steps.items())
    return f"{row.model}, {'from' if row.cached else 'without'} the cache", sum(steps.values()), f"{words} ms"


def _title(row: TimedLayers) -> str:
    return f"{row.model}, {row.precision}: its longest layers, of {row.all_ms:.1f} ms"


def _layer(row: TimedLayer) -> tuple[str, float, str]:
    return f"{row.name} ({row.kernel})", row.ms, f"{row.ms:.2f} ms, {row.part:.0%}"


def _artifact(stage: str, file: PurePosixPath) -> str | None:
    if stage == "download":
        return "Checkpoint"
    if file.suffix == ".onnx":
        return "ONNX"
    return f"IR {file.parent.name}" if file.suffix in (".xml", ".bin") else None


def _bars(rows: Iterable[tuple[str, float, str]], longest: float | None = None) -> list[Bar]:
    """Bars from (label, value, text of the value); the longest bar is the scale, unless `longest` is given."""
    known = list(rows)
    scale = longest or max((value for _, value, _ in known), default=0) or 1
    return [Bar(label, words, 100 * value / scale, label.startswith("IR")) for label, value, words in known]
