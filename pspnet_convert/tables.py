"""What people read on the terminal: tables of a card, of stages, of a verification."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.in_words import annotations_text, ir_input_text, testing_text
from pspnet_convert.device import CPU

if TYPE_CHECKING:
    from rich.table import Table

    from pspnet_convert.cards.catalog import Listed
    from pspnet_convert.commands.bundle.archive import Bundle
    from pspnet_convert.commands.rebuild.compare import Rebuild
    from pspnet_convert.manifest_fields import (
        Comparison,
        EvaluateResult,
        Score,
        SearchResult,
        VerifyInt8Result,
        VerifyResult,
    )
    from pspnet_convert.stage import Outcome

_PIPED_WIDTH = 120
CATALOG_WIDTH = 200  # piped: the longest names in one line


def print_table(table: Table, piped_width: int = _PIPED_WIDTH) -> None:
    from rich.console import Console

    # A pipe has no width of its own, and rich's guess of 80 breaks digests.
    width = None if sys.stdout.isatty() else piped_width
    Console(width=width, highlight=False, markup=False, emoji=False).print(table)


def card_table(card: ModelCard) -> Table:
    table = _pairs(card.name)
    file, model_input, output = card.checkpoint, card.input, card.output
    rows: dict[str, object] = {
        "description": card.description,
        "task": card.task_type,
        "checkpoint": f"{file.name}\n"
        + (f"{file.size} bytes\nsha256 {file.sha256}" if file.pinned else f"not pinned yet: sha256 {file.digest}..."),
        "sources": "\n".join(file.sources),
        "config": card.config or ("its own, not on the card" if card.needs_config else "the card's own network"),
        "input": f"{model_input.name} {list(model_input.shape)} {model_input.layout}\n"
        f"PyTorch and ONNX: {model_input.color_order}, mean {list(model_input.mean)}, "
        f"scale {list(model_input.scale)}\n"
        f"IR: {ir_input_text(model_input)}",
        "output": f"{output.name} {list(output.shape)}, classes {output.values[0]}..{output.values[1]}",
        "classes": ", ".join(card.class_names),
        "background": card.background or "none of them",
        "annotations": annotations_text(card.annotations),
        "test": testing_text(card.testing) if card.testing else None,
        "GFLOPs": card.gflops,
        "MParams": card.mparams,
        "accuracy": "\n".join(f"{a.metric} {a.value} %  {a.protocol}: {a.measured_by}" for a in card.accuracy)
        or "none stated",
        "licence": card.license.name,
    }
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, str(value))
    return table


def catalog_table(models: Sequence[Listed]) -> Table:
    from rich.table import Table

    table = Table()
    for heading in ("name", "dataset", "backbone", "crop size", "mIoU, %", "sha256", "licence"):
        table.add_column(heading, overflow="fold")  # names are for copying
    for model in models:
        size = "x".join(map(str, model.crop_size))
        digest = model.digest_prefix or ""
        table.add_row(
            model.name, model.dataset, model.backbone, size, _main_metric(model.metrics), digest, model.licence
        )
    return table


def _main_metric(metrics: Mapping[str, float]) -> str:
    """The mean IoU; the first of other metrics by its name where there is no such."""
    if "mIoU" in metrics:
        return f"{metrics['mIoU']:.2f}"
    return next((f"{name} {value:.2f}" for name, value in metrics.items()), "")


def stage_table(outcomes: Sequence[Outcome], folder: Path) -> Table:
    from rich.table import Table

    table = Table("stage", "")
    table.add_column("file", overflow="fold")  # a long path goes on in the next line
    table.add_column("bytes")
    table.add_column("sha256")
    for outcome in outcomes:
        state = "unchanged" if outcome.skipped else f"{outcome.record.seconds:.1f} s"
        pictures = [file for file in outcome.record.outputs if file.file.endswith(".png")]
        files = [
            (str(folder / file.file), str(file.size), file.sha256[:12])
            for file in outcome.record.outputs
            if file not in pictures
        ]
        if pictures:
            place = (folder / pictures[0].file).parent
            files.append((str(place), str(sum(file.size for file in pictures)), f"{len(pictures)} pictures"))
        first, *others = files or [("", "", "")]
        table.add_row(outcome.stage, state, *first)
        for file in others:
            table.add_row("", "", *file)
    return table


def verification_table(result: VerifyResult) -> Table:
    from rich.table import Table

    inputs = ", ".join(result.inputs)
    has_device = any(row.device not in (None, CPU) for row in result.comparisons)
    table = Table(title=f"Against the PyTorch reference, on: {inputs}", title_justify="left")
    table.add_column("model")
    for heading in ("pixels agreeing", "differing", "explained", "rms error", "allowed", "largest error", "allowed"):
        table.add_column(heading, justify="right")
    if has_device:
        table.add_column("ran on")
    table.add_column("")
    for row in (row for row in result.comparisons if row.processor is None):
        error, allowed = row.relative_error, row.allowed
        verdict = "pass" if row.passed else "FAIL"
        numbers = [""] * 7  # of a model that did not run
        if row.pixels:
            limits = (allowed.rms, allowed.largest)
            # An INT8 model's logits may be as far as they are.
            rms_allowed, largest_allowed = ("", "") if row.precision == "INT8" else map(_scientific, limits)
            errors = (_scientific(error.rms), rms_allowed, _scientific(error.largest), largest_allowed)
            counts = (f"{row.agreement:.4%}", str(row.differing), str(row.explained))
            numbers = [*counts, *errors]
        device = [_ran_on(row)] if has_device else []
        table.add_row(row.backend, *numbers, *device, f"({verdict})" if row.report_only else verdict)
    return table


def _ran_on(row: Comparison | Score) -> str:
    return "" if row.ran_on is None else f"{row.ran_on}, {row.computed_in}"


def processors_table(result: VerifyResult) -> Table | None:
    """The models that were run on several processors: the share of pixels with the reference's label, and the
    instructions that the convolutions ran with; None if there are none."""
    from rich.table import Table

    capped = [row for row in result.comparisons if row.processor is not None]
    if not capped:
        return None
    names = list(dict.fromkeys(str(row.processor) for row in capped))
    title = "As on other processors: pixels agreeing, and the instructions of the convolutions"
    table = Table("model", "this one", *names, title=title, title_justify="left")
    for base in result.comparisons:
        rows = {row.processor: row for row in capped if row.backend == f"{base.backend} on {row.processor}"}
        if rows:
            table.add_row(base.backend, _on_processor(base), *(_on_processor(rows[name]) for name in names))
    return table


def _on_processor(row: Comparison) -> str:
    words = "pass" if row.passed else "FAIL"
    return "\n".join([f"{words} {row.agreement:.4%}", *([row.executed] if row.executed else [])])


def int8_processors_table(result: VerifyInt8Result) -> Table | None:
    """The INT8 IR as on other processors; None if it was run on none."""
    from rich.table import Table

    if not result.processors:
        return None
    title = "INT8 as on other processors: pixels agreeing, and the instructions of the convolutions"
    table = Table("processor", "", "pixels agreeing", "instructions", title=title, title_justify="left")
    for row in result.processors:
        table.add_row(row.processor, "FAIL" if row.fault else "pass", f"{row.agreement:.3%}", row.executed)
    return table


def int8_table(result: VerifyInt8Result) -> Table:
    """Answers, size and speed of the INT8 IR next to the FP32 IR's."""
    from rich.table import Table

    asked = f" (INT8 on {result.device}: {result.ran_on}, {result.computed_in})" if result.device != CPU else ""
    table = Table("model", "precision", title=f"On: {', '.join(result.inputs)}{asked}", title_justify="left")
    for heading in ("pixels\nagreeing", "rms\nerror", "largest\nerror", "bytes of\nweights", "of FP32", "median\nms"):
        table.add_column(heading, justify="right")
    table.add_column("x FP32\nat f32", justify="right")
    sizes, error = result.bytes, result.relative_error
    for row in result.latency:
        is_int8 = row.weights == "INT8"
        answers = (f"{result.agreement:.3%}", _scientific(error.rms), _scientific(error.largest))
        table.add_row(
            f"IR {row.weights}",
            precision_words(row.at, row.precision),
            *(answers if is_int8 else ("", "", "")),
            str(sizes[row.weights]),
            f"{sizes[row.weights] / sizes['FP32']:.3f}",
            f"{row.median_ms:.1f}",
            f"{row.ratio:.2f}",
        )
    return table


def search_table(result: SearchResult) -> Table:
    """The ways of quantizing that were tried; a line below for what was not."""
    from rich.table import Table

    title = f"Tried, to lose at most {result.max_drop:g} points of mean IoU"
    table = Table("", "quantized", title=title, title_justify="left")
    for heading in ("mean IoU", "to FP32", "x as fast\nas plain", "bytes of\nweights"):
        table.add_column(heading, justify="right")
    for one in result.tried:
        table.add_row(
            "chosen" if one.name == result.chosen else "",
            one.name,
            _per_cent(one.mean_iou),
            _points(-one.drop),
            f"{one.speed:.2f}",
            str(one.bytes),
        )
    if result.not_tried:
        table.caption = f"No time for: {', '.join(result.not_tried)}"
        table.caption_justify = "left"
    return table


def evaluation_table(result: EvaluateResult) -> Table:
    """The figures of an evaluation, a row a model."""
    from rich.table import Table

    seen = f"{result.images} of {result.listed} images"
    table = Table(title=f"Mean IoU on {seen}, protocol {result.protocol}", title_justify="left")
    table.add_column("model")
    has_void = result.protocol != "mmseg"
    says_from = not has_void and any(row.answers == "label map" for row in result.scores)
    others = [name for name in result.scores[0].metrics if name not in ("aAcc", "mIoU")]
    headings = ["mean IoU,\nvoid as background", "mean IoU,\nvoid left out"] if has_void else ["mean IoU"]
    compared = [f"to {result.reference or 'a reference'}", "to the card's"]
    for heading in (*headings, "pixel accuracy", *others, *compared):
        table.add_column(heading, justify="right")
    has_device = any(row.device not in (None, CPU) for row in result.scores)
    if has_device:
        table.add_column("ran on")
    if says_from:
        table.add_column("from")
    for row in result.scores:
        stated = result.stated
        table.add_row(
            row.backend,
            _per_cent(row.mean_iou),
            *([_per_cent(row.mean_iou_without_void)] if has_void else []),
            _per_cent(row.pixel_accuracy),
            *(_per_cent(row.metrics[name]) for name in others),
            _points(None if row.drop is None else -row.drop),
            _points(None if stated is None else row.mean_iou - stated),
            *([_ran_on(row)] if has_device else []),
            *([row.answers] if says_from else []),
        )
    return table


def class_table(result: EvaluateResult) -> Table:
    """The IoU of each class, a column a model."""
    from rich.table import Table

    table = Table("class")
    for row in result.scores:
        table.add_column(row.backend, justify="right")
    for name in result.scores[0].ious:
        values = [row.ious[name] for row in result.scores]
        table.add_row(name, *("-" if value is None else f"{value:.2f}" for value in values))
    return table


def evaluation_notes(result: EvaluateResult) -> list[str]:
    """A line for each model that was left out, each image that was skipped or has unknown values, each warning."""
    return [
        *(f"{name} is not evaluated: it {reason}" for name, reason in result.left_out.items()),
        *(f"skipped {name}: {reason}" for name, reason in result.skipped.items()),
        *(f"{name}: {pixels} annotated pixels have values of no class" for name, pixels in result.unknown.items()),
        *(f"look again: {warning}" for warning in result.warnings),
    ]


def rebuild_table(result: Rebuild) -> Table:
    from rich.table import Table

    table = Table()
    table.add_column("file", overflow="fold")
    for heading in ("in the manifest", "made again", ""):
        table.add_column(heading)
    for file in result.files:
        table.add_row(
            file.file, file.recorded[:12], (file.rebuilt or "none")[:12], "same" if file.same else "DIFFERENT"
        )
    for name in result.left_out:
        table.add_row(name, "", "not made again", "")
    return table


def bundle_table(packed: Bundle) -> Table:
    from rich.table import Table

    table = Table()
    table.add_column("file", overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("sha256")
    for file in packed.files:
        table.add_row(file.file, str(file.size), file.sha256[:12])
    table.add_section()
    table.add_row(str(packed.path), str(packed.size), packed.sha256[:12])
    return table


def segment_table(shares: Mapping[str, Mapping[str, float]]) -> Table:
    """`shares`: class shares by overlay picture."""
    table = _pairs("Segmented")
    for overlay, parts in shares.items():
        table.add_row(overlay, ", ".join(f"{name} {share:.1%}" for name, share in parts.items()))
    return table


def precision_words(at: str, precision: str) -> str:
    """How a model was run: i8+f32, say, or `default (bf16)` where it ran at the default precision."""
    return precision if at == "f32" else f"default ({precision})"


def _pairs(title: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    return table


def _per_cent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} %"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2) + 0:+.2f}"  # + 0: no -0.00


def _scientific(value: Any) -> str:
    return "not finite" if value is None else f"{value:.1e}"
