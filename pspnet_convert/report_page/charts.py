"""The values of the page's bar charts: labels, figures, lengths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from pspnet_convert.manifest_document import Stages
from pspnet_convert.manifest_fields import Score
from pspnet_convert.report_page.words import in_bytes


@dataclass(frozen=True)
class Bar:
    """`length`: 0..100, in per cent of the chart's scale. `is_ir`: drawn in the accent colour."""

    label: str
    value: str
    length: float
    is_ir: bool


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
