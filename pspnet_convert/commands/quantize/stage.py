"""The stages quantize and verify-int8: the workspace's FP32 IR as INT8, and how the two compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pspnet_convert import tools
from pspnet_convert.commands.quantize.calibrate import calibration_images, checked_images, write_int8
from pspnet_convert.commands.quantize.int8_check import check_int8
from pspnet_convert.commands.quantize.options import QuantizeOptions, VerifyInt8Options
from pspnet_convert.files import writing
from pspnet_convert.job import Job, require
from pspnet_convert.processor import chosen_processors, this_processor
from pspnet_convert.progress import steps
from pspnet_convert.stage import Stage
from pspnet_convert.workspace import INT8, Workspace, ir_files


def quantize_stage(job: Job, options: QuantizeOptions) -> Stage:
    """The workspace's FP32 IR as INT8."""
    ir = job.ir("FP32")
    require(ir_files(ir), "to-ir")
    images = calibration_images(job.card, options.calibration, options.subset_size)

    def make(made: Workspace) -> dict[str, Any]:
        target = made.ir(INT8)
        calibrating = steps(job.progress, len(images), "calibrating", stage="quantize")
        with calibrating as note, writing(job.workspace.folder):
            target.parent.mkdir()
            shape, form = job.exported_shape(), job.input_form()
            write_int8(ir, job.card, shape, form, images, target, note, overflow_fix=options.overflow_fix)
        return {}

    return Stage(
        "quantize",
        make,
        inputs=_inputs(job, [ir], images),
        options=options,
        tools=tools.INT8,
        outputs=ir_files(job.workspace.ir(INT8)),
    )


def verify_int8_stage(job: Job, options: VerifyInt8Options, calibration: Path | None) -> Stage:
    """Compare the workspace's INT8 IR with the FP32 one, on a few of the calibration's images."""
    irs = {precision: job.ir(precision) for precision in ("FP32", INT8)}
    images = checked_images(job.card, calibration)
    processor = this_processor()
    processors = chosen_processors(options.processor, processor)

    def make(made: Workspace) -> dict[str, Any]:
        shape, form = job.exported_shape(), job.input_form()
        runs = (2 + len(processors)) * len(images)
        with steps(job.progress, runs, "verifying", stage="verify-int8") as note:
            return check_int8(irs, job.card, shape, form, images, options.min_agreement, processors, note)

    return Stage(
        "verify-int8",
        make,
        inputs={**_inputs(job, list(irs.values()), images), "processor": processor.as_dict()},
        options=options,
        tools=tools.INT8_VERIFICATION,
    )


def _inputs(job: Job, irs: Sequence[Path], images: Sequence[Path]) -> dict[str, Any]:
    return {
        "models": job.records([file for path in irs for file in ir_files(path)]),
        "images": job.image_records(images),
        "card": job.converted_card(),
    }
