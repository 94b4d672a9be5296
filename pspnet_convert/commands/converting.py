"""The commands that make models: from a checkpoint to IR, verified; and to INT8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from pspnet_convert.commands import options
from pspnet_convert.commands.guard import command
from pspnet_convert.commands.options import FILE, FOLDER, combine_options, job_of
from pspnet_convert.commands.output import print_int8, print_outcomes, print_verified, remove_earlier

if TYPE_CHECKING:
    from pspnet_convert.runtimes.input_form import ImageShape

# Labels change where the two best classes are close: at 0.1 % of the demo's pixels. Eight bits badly spent (ranges from
# pictures of another kind, a layer that does not bear it) change them in whole regions.
_MIN_AGREEMENT = 0.95


@command
@combine_options(options.model, options.output_dir, options.source, options.force, options.progress)
def download(
    model: str,
    output_dir: Path,
    sources: Sequence[str],
    allow_http_redirect: bool,
    force: bool,
    progress: str,
    as_json: bool,
) -> None:
    """Fetch the checkpoint that the model's card names, and check it.

    \b
    Example:
      pspnet-convert download --source https://mirror.example/models/
    """
    from pspnet_convert.stages import download as stage

    with job_of(model, output_dir, progress, force=force) as job:
        print_outcomes(job, [stage.download(job, sources, allow_http_redirect=allow_http_redirect)], as_json)


@command
@combine_options(options.model, options.output_dir, options.config, options.checkpoint)
@combine_options(options.export, options.force, options.progress)
def export_onnx(
    model: str,
    output_dir: Path,
    config: Path | None,
    checkpoint: Path | None,
    allow_unknown_checkpoint: bool,
    shape: ImageShape | None,
    batch: int,
    opset: int,
    int32: bool,
    fold_pyramid: bool,
    force: bool,
    progress: str,
    as_json: bool,
) -> None:
    """Export the checkpoint's network to ONNX, argmax folded in.

    \b
    Example:
      pspnet-convert export-onnx demo --input-shape 1,3,320,320
    """
    from pspnet_convert.stages import export

    with job_of(model, output_dir, progress, checkpoint, allow_unknown_checkpoint, config=config, force=force) as job:
        outcome = export.export_onnx(job, shape, batch, opset, int32=int32, fold_pyramid=fold_pyramid)
        print_outcomes(job, [outcome], as_json)


@command
@combine_options(options.model, options.output_dir, options.config, options.own_checkpoint, options.precision)
@combine_options(options.input_form, options.front_end, options.force, options.progress)
def to_ir(
    model: str,
    output_dir: Path,
    config: Path | None,
    checkpoint: Path | None,
    precisions: Sequence[str],
    input_type: Literal["f32", "u8"],
    input_layout: Literal["NCHW", "NHWC"],
    front_end: str,
    mo_args: Sequence[tuple[str, Any]],
    force: bool,
    progress: str,
    as_json: bool,
) -> None:
    """Convert the ONNX to OpenVINO IR that takes plain BGR images, 0..255.

    \b
    Example:
      pspnet-convert to-ir demo --precision FP16
    """
    from pspnet_convert.runtimes.input_form import InputForm
    from pspnet_convert.stages import conversion
    from pspnet_convert.to_ir.front_ends import find_front_end

    if config is None:
        options.refuse("checkpoint", because="is for --config here: the ONNX of MODEL has been exported")
    form = InputForm(input_type, input_layout)
    with job_of(model, output_dir, progress, checkpoint, config=config, force=force) as job:
        chosen = find_front_end(front_end, dict(mo_args))
        print_outcomes(job, [conversion.to_ir(job, precisions, chosen, form)], as_json)


@command
@combine_options(options.model, options.output_dir, options.config, options.checkpoint, options.images)
@click.option("--onnx", "onnx_files", type=FILE, multiple=True, help="Compare this ONNX from elsewhere. Repeatable.")
@click.option("--ir", "ir_files", type=FILE, multiple=True, help="Compare this IR (.xml) from elsewhere. Repeatable.")
@combine_options(options.input_shape, options.batch, options.input_form)
@click.option(
    "--at-default-precision", is_flag=True, help="Tell as well how the IRs answer as this processor runs them."
)
@click.option("--save-diff", type=FOLDER, metavar="DIR", help="Save pictures of what differs, side by side.")
@combine_options(options.junit, options.force, options.progress)
def verify(
    model: str,
    output_dir: Path,
    config: Path | None,
    checkpoint: Path | None,
    allow_unknown_checkpoint: bool,
    images: Sequence[Path],
    onnx_files: Sequence[Path],
    ir_files: Sequence[Path],
    shape: ImageShape | None,
    batch: int,
    input_type: Literal["f32", "u8"],
    input_layout: Literal["NCHW", "NHWC"],
    at_default_precision: bool,
    save_diff: Path | None,
    junit: Path | None,
    force: bool,
    progress: str,
    as_json: bool,
) -> None:
    """Compare ONNX and IR with the PyTorch original, pixel by pixel.

    With --onnx or --ir, those files are compared instead of the workspace's, and the manifest stays as it is. Such
    files must take what --input-shape, --batch, --input-type and --input-layout say; the workspace's own, what they
    were made for.

    Exit code 0: the same answers; 9: a converted model is wrong; 10: inconclusive, the images could not show it.

    \b
    Example:
      pspnet-convert verify demo --images photo.jpg
    """
    from pspnet_convert.runtimes.input_form import InputForm
    from pspnet_convert.stages import verification

    if not (onnx_files or ir_files):
        others = "shape", "batch", "input_type", "input_layout"
        options.refuse(*others, because="is for files from elsewhere (--onnx, --ir)")
    remove_earlier(junit)
    with job_of(model, output_dir, progress, checkpoint, allow_unknown_checkpoint, config=config, force=force) as job:
        outcome = verification.verify(
            job,
            images,
            onnx_files,
            ir_files,
            shape=shape,
            batch=batch,
            form=InputForm(input_type, input_layout),
            at_default_precision=at_default_precision,
            save_diff=save_diff,
        )
        print_verified(job, [outcome], as_json, junit)


@command
@combine_options(options.model, options.output_dir, options.source, options.config, options.checkpoint, options.export)
@combine_options(options.precision, options.input_form, options.front_end, options.images, options.junit)
@combine_options(options.force, options.progress)
def run(
    model: str,
    output_dir: Path,
    sources: Sequence[str],
    allow_http_redirect: bool,
    config: Path | None,
    checkpoint: Path | None,
    allow_unknown_checkpoint: bool,
    shape: ImageShape | None,
    batch: int,
    opset: int,
    int32: bool,
    fold_pyramid: bool,
    precisions: Sequence[str],
    input_type: Literal["f32", "u8"],
    input_layout: Literal["NCHW", "NHWC"],
    front_end: str,
    mo_args: Sequence[tuple[str, Any]],
    images: Sequence[Path],
    junit: Path | None,
    force: bool,
    progress: str,
    as_json: bool,
) -> None:
    """All stages: download, export-onnx, to-ir, verify; and their page, report.html.

    What has not changed is not done again.

    \b
    Example:
      pspnet-convert run demo -o models
    """
    from pspnet_convert import pipeline
    from pspnet_convert.runtimes.input_form import InputForm

    remove_earlier(junit)
    with job_of(model, output_dir, progress, checkpoint, allow_unknown_checkpoint, config=config, force=force) as job:
        outcomes = pipeline.run(
            job,
            sources=sources,
            allow_http_redirect=allow_http_redirect,
            shape=shape,
            batch=batch,
            opset=opset,
            int32=int32,
            fold_pyramid=fold_pyramid,
            precisions=precisions,
            front_end=front_end,
            mo_args=dict(mo_args),
            form=InputForm(input_type, input_layout),
            images=images,
            download=checkpoint is None,
        )
        print_verified(job, outcomes, as_json, junit)


@command
@combine_options(options.model, options.output_dir, options.config, options.own_checkpoint)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    show_default="the card's dataset, or the photographs that ship with the tool",
    help="A folder of pictures like those that the model will see.",
)
@click.option(
    "--subset-size", type=click.IntRange(1), default=options.SUBSET, show_default=True, help="At most so many of them."
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    default=_MIN_AGREEMENT,
    show_default=True,
    help="The share of pixels with the FP32 IR's label that the INT8 IR must reach.",
)
@click.option("--dataset", type=FOLDER, help="Measure both IRs' mean IoU on it: a folder in Pascal VOC's layout.")
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    help="Points of mIoU that INT8 may lose against FP32, on --dataset or the card's: else exit 16.",
)
@combine_options(options.force, options.progress)
def quantize(
    model: str,
    output_dir: Path,
    config: Path | None,
    checkpoint: Path | None,
    calibration: Path | None,
    subset_size: int,
    min_agreement: float,
    dataset: Path | None,
    max_drop: float | None,
    force: bool,
    progress: str,
    as_json: bool,
) -> None:
    """Quantize the FP32 IR to INT8 by NNCF, and compare the two: answers, bytes, time, and mIoU if asked for.

    Exit code 0: it agrees with the FP32 IR; 9: it does not; 10: inconclusive, the images show one class only.

    \b
    Example:
      pspnet-convert quantize demo --calibration photos --max-drop 1
    """
    from pspnet_convert import pipeline

    if config is None:
        options.refuse("checkpoint", because="is for --config here: the FP32 IR of MODEL has been converted")
    with job_of(model, output_dir, progress, checkpoint, config=config, force=force) as job:
        measured = dataset is not None or max_drop is not None
        outcomes = pipeline.run_int8(job, calibration, subset_size, min_agreement, dataset, evaluate=measured)
        print_int8(job, outcomes, max_drop, as_json)
