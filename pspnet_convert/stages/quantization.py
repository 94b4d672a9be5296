"""The stages quantize and verify-int8: the workspace's FP32 IR as INT8, and how the two compare.

The work is quantize.py's and int8_check.py's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pspnet_convert.job import Job, Outcome, require
from pspnet_convert.progress import steps
from pspnet_convert.quantize.calibrate import calibration_images, checked_images
from pspnet_convert.quantize.calibrate import quantize as write_int8
from pspnet_convert.quantize.int8_check import check_int8
from pspnet_convert.stages import tools
from pspnet_convert.workspace import INT8, ir_files


def quantize(job: Job, calibration: Path | None, subset_size: int) -> Outcome:
    """The workspace's FP32 IR as INT8, calibrated with pictures of the folder `calibration`, or of the card."""
    ir, target = job.ir("FP32"), job.workspace.ir(INT8)
    require(ir_files(ir), "to-ir")
    images = calibration_images(job.card, calibration, subset_size)

    def work() -> dict[str, Any]:
        calibrating = steps(job.progress, len(images), "calibrating", stage="quantize")
        with calibrating as note, job.write_irs_atomically([target]) as (made,):
            write_int8(ir, job.card, job.exported_shape(), job.input_form(), images, made, note)
        return {}

    return job.stage(
        "quantize",
        inputs=_inputs(job, [ir], images),
        options={"subset_size": subset_size},
        tools=tools.INT8,
        outputs=ir_files(target),
        work=work,
    )


def verify_int8(job: Job, calibration: Path | None, min_agreement: float) -> Outcome:
    """Compare the workspace's INT8 IR with the FP32 one, on a few pictures (checked_images).

    The verdict is in the record's result.
    """
    irs = {precision: job.ir(precision) for precision in ("FP32", INT8)}
    images = checked_images(job.card, calibration)

    def work() -> dict[str, Any]:
        with steps(job.progress, 2 * len(images), "verifying", stage="verify-int8") as note:
            return check_int8(irs, job.card, job.exported_shape(), job.input_form(), images, min_agreement, note)

    return job.stage(
        "verify-int8",
        inputs=_inputs(job, list(irs.values()), images),
        options={"min_agreement": min_agreement},
        tools=tools.INT8_VERIFICATION,
        outputs=[],
        work=work,
    )


def _inputs(job: Job, irs: Sequence[Path], images: Sequence[Path]) -> dict[str, Any]:
    return {
        "models": job.records([file for path in irs for file in ir_files(path)]),
        "images": job.pictures(images),
        "card": job.converted_card(),
    }
