"""The stages quantize and verify-int8: the workspace's FP32 IR as INT8, and how the two compare."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pspnet_convert import tools
from pspnet_convert.commands.quantize.calibrate import calibration_images, checked_images, write_int8
from pspnet_convert.commands.quantize.golden_agreement import golden_agreement, golden_records
from pspnet_convert.commands.quantize.image_files import names_below
from pspnet_convert.commands.quantize.int8_check import check_int8
from pspnet_convert.commands.quantize.options import QuantizeOptions, VerifyInt8Options
from pspnet_convert.commands.quantize.recipe import Recipe
from pspnet_convert.files import writing
from pspnet_convert.job import Job, require
from pspnet_convert.processor import chosen_processors, this_processor
from pspnet_convert.progress import steps
from pspnet_convert.runtimes.child_model import OpenModel
from pspnet_convert.runtimes.devices import device_record
from pspnet_convert.stage import Stage
from pspnet_convert.workspace import INT8, Workspace, ir_files


@dataclass(frozen=True)
class Calibration:
    """The images that calibrate the INT8 IRs, and the folder or list file that the user named."""

    source: Path | None
    images: Sequence[Path]

    @classmethod
    def of(cls, job: Job, options: QuantizeOptions) -> Self:
        """What the options ask for. Raises the errors of calibration_images."""
        return cls(options.calibration, calibration_images(job.card, options.calibration, options.subset_size))


def quantize_stage(
    job: Job, options: QuantizeOptions, calibration: Calibration, recipe: Recipe, kept: Path | None = None
) -> Stage:
    """The workspace's FP32 IR as INT8, by `recipe`; `kept`: the .xml of the IR that the same work has made before."""
    ir = fp32_ir(job)
    images = calibration.images

    def make(made: Workspace) -> dict[str, Any]:
        target = made.ir(INT8)
        if kept is not None:
            with writing(job.workspace.folder):
                target.parent.mkdir()
                for path in ir_files(kept):
                    shutil.copy(path, target.parent)
            return {}
        calibrating = steps(job.progress, len(images), "calibrating", stage="quantize")
        with calibrating as note, writing(job.workspace.folder):
            target.parent.mkdir()
            shape, form = job.exported_shape(), job.input_form()
            write_int8(ir, job.card, shape, form, images, target, note, recipe=recipe)
        return {}

    return Stage(
        "quantize",
        make,
        inputs={**calibration_inputs(job, [ir], calibration), "recipe": recipe.as_record()},
        options=options,
        tools=tools.INT8,
        outputs=ir_files(job.workspace.ir(INT8)),
    )


def verify_int8_stage(job: Job, options: VerifyInt8Options, calibration: Calibration) -> Stage:
    """Compare the workspace's INT8 IR with the FP32 one, on a few of the calibration's images."""
    irs = {precision: job.ir(precision) for precision in ("FP32", INT8)}
    images = checked_images(job.card, calibration.images)
    processor = this_processor()
    processors = chosen_processors(options.processor, processor, options.device)
    golden = golden_records(job)

    def make(made: Workspace) -> dict[str, Any]:
        shape, form = job.exported_shape(), job.input_form()
        runs = (2 + len(processors)) * len(images)
        with steps(job.progress, runs, "verifying", stage="verify-int8") as note:
            int8 = OpenModel(irs[INT8], job.card, shape, form, device=options.device)
            found = check_int8(irs["FP32"], int8, images, options.min_agreement, processors, note)
        return {**found, "golden_agreement": golden_agreement(job, golden) if golden else None}

    return Stage(
        "verify-int8",
        make,
        inputs={
            **calibration_inputs(job, list(irs.values()), Calibration(calibration.source, images)),
            "golden": golden,
            "processor": processor.as_dict(),
            "device": device_record(options.device),
        },
        options=options,
        tools=tools.INT8_VERIFICATION,
    )


def fp32_ir(job: Job) -> Path:
    """The .xml of the workspace's FP32 IR; ArtifactError where there is none, or it is not current."""
    ir = job.ir("FP32")
    require(ir_files(ir), "to-ir")
    return ir


def calibration_inputs(job: Job, irs: Sequence[Path], calibration: Calibration) -> dict[str, Any]:
    """Plain values of manifest_fields.Int8Inputs."""
    names = names_below(calibration.source, calibration.images)
    return {
        "models": job.records([file for path in irs for file in ir_files(path)]),
        "images": [job.digests.record(path, name) for path, name in zip(calibration.images, names)],
        "card": job.converted_card(),
    }
