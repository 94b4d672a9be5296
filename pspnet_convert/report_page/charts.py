"""The values of the page's charts: of the bars, and of the plot of what quantize --max-drop tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

from pspnet_convert.manifest_document import Stages
from pspnet_convert.manifest_fields import Score, SearchResult, Tried
from pspnet_convert.pipeline import SEARCH
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
    # A later `quantize` may have made another IR.
    recipe = stages["quantize"].inputs.recipe if "quantize" in stages else None
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
