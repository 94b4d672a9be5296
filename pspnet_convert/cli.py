"""The command line: parse, call one function, print. No logic of its own, and nothing heavy imported early."""

from __future__ import annotations

import atexit
import functools
import gc
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Optional

import click

from pspnet_convert import __version__
from pspnet_convert.errors import (
    DISK_FULL,
    AccuracyError,
    ConvertError,
    DifferenceError,
    InconclusiveError,
    MismatchError,
    WorkspaceError,
    printable,
)

if TYPE_CHECKING:
    from pspnet_convert.contract import ImageShape
    from pspnet_convert.pipeline import Conversion, Outcome

INTERRUPTED = 130
PRECISIONS = ("FP32", "FP16")
INT8 = "INT8"
_MAX_SIDE = 8192
# Labels change where the two best classes are close: at 0.1 % of the demo's pixels. Eight bits badly spent (ranges from
# pictures of another kind, a layer that does not bear it) change them in whole regions.
_MIN_AGREEMENT = 0.95


class _Shape(click.ParamType):
    name = "1,3,H,W"

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> ImageShape:
        try:
            batch, channels, height, width = (int(part) for part in str(value).strip("[]").split(","))
        except ValueError:
            self.fail(f"{value!r} is not four numbers: 1,3,HEIGHT,WIDTH", param, ctx)
        if (batch, channels) != (1, 3) or not all(8 <= side <= _MAX_SIDE for side in (height, width)):
            self.fail(f"{value!r} is not 1,3,HEIGHT,WIDTH with sides of 8 to {_MAX_SIDE}", param, ctx)
        return 1, 3, height, width


class _MoArgument(click.ParamType):
    name = "NAME[=VALUE]"

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> Any:
        name, equals, text = str(value).lstrip("-").partition("=")
        if not name:
            self.fail("has no name", param, ctx)
        return name, text if equals else True


_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_model = click.argument("model", default="pspnet-pytorch")
_where = functools.partial(
    click.option,
    type=click.Path(path_type=Path, file_okay=True),
    default=Path(),
    show_default="the current folder",
    help="Where public/<model>/ lies.",
)
_output_dir = _where("-o", "--output-dir")
_force = click.option("--force", is_flag=True, help="Do it again even if nothing has changed.")
_progress = click.option(
    "--progress",
    type=click.Choice(["auto", "json", "none"]),
    default="auto",
    show_default=True,
    help="auto: a bar on a terminal; json: one event a line on stdout.",
)
_source = click.option(
    "--source",
    "sources",
    multiple=True,
    envvar="PSPNET_CONVERT_SOURCE",
    show_envvar=True,
    metavar="URL_OR_DIR",
    help="Try this place first: http(s)://, file://, a folder or a file. Repeatable.",
)
_allow_http_redirect = click.option(
    "--allow-http-redirect", is_flag=True, help="Follow a redirect from https to plain http; the digest is checked."
)
_images = click.option("--images", type=_FILE, multiple=True, help="Verify on this picture as well. Repeatable.")
_junit = click.option("--junit", type=_FILE, metavar="FILE", help="Write the verification as JUnit XML, for CI.")
_precision = click.option(
    "--precision",
    "precisions",
    type=click.Choice(PRECISIONS),
    multiple=True,
    default=PRECISIONS,
    show_default="both",
    help="FP16 compresses the weights. Repeatable.",
)
_mo_arg = click.option(
    "--mo-arg",
    "mo_args",
    type=_MoArgument(),
    multiple=True,
    help="A further argument of Model Optimizer, by its Python name. Repeatable.",
)


def _together(*options: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


_checkpoint = _together(
    click.option("--checkpoint", type=_FILE, help="A checkpoint that is here already, instead of the download."),
    click.option("--allow-unknown-checkpoint", is_flag=True, help="Take it though its digest is not the card's."),
)
_export_options = _together(
    click.option("--input-shape", "shape", type=_Shape(), show_default="the card's", help="The image's shape."),
    click.option("--opset", type=int, default=18, show_default=True, help="ONNX opset, 18 to 23."),
    click.option("--int32", is_flag=True, help="A label map of int32 instead of int64."),
    click.option(
        "--fold-pyramid/--no-fold-pyramid",
        default=True,
        show_default=True,
        help="Export the pyramid head folded (faster, the same logits), or as written.",
    ),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pspnet-convert")
def cli() -> None:
    """PSPNet from a PyTorch checkpoint to verified OpenVINO IR.

    MODEL is a built-in model (pspnet-pytorch, demo) or the path of a model.yml.

    \b
    Example:
      pspnet-convert run demo
    """


def _command(function: Callable[..., None]) -> click.Command:
    """A command with --json and --debug, whose errors become one line and an exit code."""

    @functools.wraps(function)
    def guarded(*args: Any, debug: bool, **options: Any) -> None:
        with _errors_in_one_line(debug, as_json=options["as_json"]):
            _set_up_logging(debug)
            function(*args, **options)
            sys.stdout.flush()

    with_options = _together(
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
        click.option("--debug", is_flag=True, help="Log everything, and show tracebacks."),
    )(guarded)
    return cli.command(name=function.__name__.rstrip("_").replace("_", "-"))(with_options)


@_command
@_model
@click.option("--omz-json", is_flag=True, help="Print it as Open Model Zoo's omz_info_dumper prints its models.")
def info(model: str, omz_json: bool, as_json: bool) -> None:
    """Print a model's card.

    \b
    Example:
      pspnet-convert info demo --json
    """
    from pspnet_convert.catalog import find_card
    from pspnet_convert.omz import omz_info
    from pspnet_convert.printing import card_table, print_table

    card = find_card(model)
    if omz_json:
        _print_json([omz_info(card)])
    elif as_json:
        _print_json(card.model_dump(mode="json", exclude_none=True))
    else:
        print_table(card_table(card))


@_command
@_together(_model, _output_dir, _source, _allow_http_redirect, _force, _progress)
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
    with _job(model, output_dir, progress, force=force) as job:
        _print_outcomes(job, [job.download(sources, allow_http_redirect=allow_http_redirect)], as_json)


@_command
@_together(_model, _output_dir, _checkpoint, _export_options, _force, _progress)
def export_onnx(
    model: str,
    output_dir: Path,
    checkpoint: Optional[Path],
    allow_unknown_checkpoint: bool,
    shape: Optional[ImageShape],
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
    with _job(model, output_dir, progress, checkpoint, allow_unknown_checkpoint, force=force) as job:
        _print_outcomes(job, [job.export_onnx(shape, opset, int32=int32, fold_pyramid=fold_pyramid)], as_json)


@_command
@_together(_model, _output_dir, _precision, _mo_arg, _force, _progress)
def to_ir(
    model: str,
    output_dir: Path,
    precisions: Sequence[str],
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
    with _job(model, output_dir, progress, force=force) as job:
        _print_outcomes(job, [job.to_ir(precisions, dict(mo_args))], as_json)


@_command
@_together(_model, _output_dir, _checkpoint, _images)
@click.option("--onnx", "onnx_files", type=_FILE, multiple=True, help="Compare this ONNX from elsewhere. Repeatable.")
@click.option("--ir", "ir_files", type=_FILE, multiple=True, help="Compare this IR (.xml) from elsewhere. Repeatable.")
@click.option(
    "--at-default-precision", is_flag=True, help="Tell as well how the IRs answer as this processor runs them."
)
@click.option("--save-diff", type=_FOLDER, metavar="DIR", help="Save pictures of what differs, side by side.")
@_together(_junit, _force, _progress)
def verify(
    model: str,
    output_dir: Path,
    checkpoint: Optional[Path],
    allow_unknown_checkpoint: bool,
    images: Sequence[Path],
    onnx_files: Sequence[Path],
    ir_files: Sequence[Path],
    at_default_precision: bool,
    save_diff: Optional[Path],
    junit: Optional[Path],
    force: bool,
    progress: str,
    as_json: bool,
) -> None:
    """Compare ONNX and IR with the PyTorch original, pixel by pixel.

    With --onnx or --ir, those files are compared instead of the workspace's, and the manifest stays as it is.

    Exit code 0: the same answers; 9: a converted model is wrong; 10: inconclusive, the images could not show it.

    \b
    Example:
      pspnet-convert verify demo --images photo.jpg
    """
    with _job(model, output_dir, progress, checkpoint, allow_unknown_checkpoint, force=force) as job:
        outcome = job.verify(
            images, [*onnx_files], [*ir_files], at_default_precision=at_default_precision, save_diff=save_diff
        )
        _print_verified(job, [outcome], as_json, junit)


@_command
@_together(_model, _output_dir, _source, _allow_http_redirect, _checkpoint, _export_options, _precision, _mo_arg)
@_together(_images, _junit, _force, _progress)
def run(
    model: str,
    output_dir: Path,
    sources: Sequence[str],
    allow_http_redirect: bool,
    checkpoint: Optional[Path],
    allow_unknown_checkpoint: bool,
    shape: Optional[ImageShape],
    opset: int,
    int32: bool,
    fold_pyramid: bool,
    precisions: Sequence[str],
    mo_args: Sequence[tuple[str, Any]],
    images: Sequence[Path],
    junit: Optional[Path],
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

    with _job(model, output_dir, progress, checkpoint, allow_unknown_checkpoint, force=force) as job:
        outcomes = pipeline.run(
            job,
            sources=sources,
            allow_http_redirect=allow_http_redirect,
            shape=shape,
            opset=opset,
            int32=int32,
            fold_pyramid=fold_pyramid,
            precisions=precisions,
            mo_args=dict(mo_args),
            images=images,
            download=checkpoint is None,
        )
        _print_verified(job, outcomes, as_json, junit)


@_command
@_together(_model, _output_dir)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    show_default="the card's dataset, or the photographs that ship with the tool",
    help="A folder of pictures like those that the model will see.",
)
@click.option("--subset-size", type=click.IntRange(1), default=300, show_default=True, help="At most so many of them.")
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    default=_MIN_AGREEMENT,
    show_default=True,
    help="The share of pixels with the FP32 IR's label that the INT8 IR must reach.",
)
@click.option("--dataset", type=_FOLDER, help="Measure both IRs' mean IoU on it: a folder in Pascal VOC's layout.")
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    help="Points of mIoU that INT8 may lose against FP32, on --dataset or the card's: else exit 16.",
)
@_together(_force, _progress)
def quantize(
    model: str,
    output_dir: Path,
    calibration: Optional[Path],
    subset_size: int,
    min_agreement: float,
    dataset: Optional[Path],
    max_drop: Optional[float],
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
    with _job(model, output_dir, progress, force=force) as job:
        outcomes = [job.quantize(calibration, subset_size), job.verify_int8(calibration, min_agreement)]
        if dataset is not None or max_drop is not None:
            outcomes.append(job.evaluate_int8(dataset))
        _print_int8(job, outcomes, max_drop, as_json)


@_command
@_together(_model, _output_dir)
def report(model: str, output_dir: Path, as_json: bool) -> None:
    """Write the page of what was done so far, public/<model>/report.html, from the manifest.

    \b
    Example:
      pspnet-convert report demo -o models
    """
    with _job(model, output_dir, "none", force=False) as job:
        page = job.report()
    if as_json:
        _print_json({"report": str(page)})
    else:
        print(page)


@_command
@click.argument("images", type=_FILE, nargs=-1, required=True)
@click.option("--model", default="pspnet-pytorch", show_default=True, help="Whose IR to use.")
@click.option("--precision", type=click.Choice([*PRECISIONS, INT8]), default="FP32", show_default=True)
@_output_dir
def segment(images: Sequence[Path], model: str, precision: str, output_dir: Path, as_json: bool) -> None:
    """Segment pictures with the IR: an overlay with a legend, and a palette PNG of each.

    They are written to public/<model>/segmented/.

    \b
    Example:
      pspnet-convert segment photo.jpg --model demo
    """
    from pspnet_convert.backends import OpenVinoBackend
    from pspnet_convert.catalog import find_card
    from pspnet_convert.printing import print_table, segment_table
    from pspnet_convert.segment import segment as segment_images
    from pspnet_convert.workspace import Workspace

    card = find_card(model)
    workspace = Workspace(output_dir, card.name)
    with workspace.locked():
        backend = OpenVinoBackend(workspace.ir(precision), card)
        done = list(segment_images(backend, card, backend.shape, images, workspace.folder / "segmented"))
    if as_json:
        _print_json(
            [
                {
                    "image": str(one.image),
                    "overlay": str(one.overlay),
                    "labels": str(one.labels),
                    "shares": one.shares,
                }
                for one in done
            ]
        )
    else:
        print_table(segment_table({str(one.overlay): one.shares for one in done}))


@_command
@_together(_model, _output_dir, _checkpoint)
@click.option("--rounds", type=click.IntRange(1, 1000), default=7, show_default=True, help="Turns of each model.")
@click.option("--int8", is_flag=True, help="The folded graph in INT8 as well; needs NNCF.")
@click.option("--plot", type=_FILE, help="Draw a bar chart into this PNG file.")
@_progress
def benchmark(
    model: str,
    output_dir: Path,
    checkpoint: Optional[Path],
    allow_unknown_checkpoint: bool,
    rounds: int,
    int8: bool,
    plot: Optional[Path],
    progress: str,
    as_json: bool,
) -> None:
    """Time PyTorch, ONNX and IR in turns: the graph that torch exports by itself, and this tool's.

    \b
    Example:
      pspnet-convert benchmark demo --plot speed.png
    """
    from pspnet_convert.printing import benchmark_table, plot_benchmark, print_table
    from pspnet_convert.workspace import replacing

    with _job(model, output_dir, progress, checkpoint, allow_unknown_checkpoint, force=False) as job:
        rows = job.benchmark(rounds, int8=int8)
    if plot is not None:
        with replacing(plot) as (temporary,):
            plot_benchmark(rows, temporary)
    if as_json:
        _print_json([row.as_dict() for row in rows])
    else:
        print_table(benchmark_table(rows))


@_command
@_together(_model, _output_dir, _checkpoint)
@click.option("--dataset", type=click.Path(path_type=Path, file_okay=False), help="A folder in Pascal VOC's layout.")
@click.option("--split", default="val", show_default=True, help="Which list below ImageSets/Segmentation.")
@click.option(
    "--protocol",
    type=click.Choice(["crop", "pad", "whole"]),
    show_default="the card's first figure's",
    help="How an image is brought to the model's size, and what is scored.",
)
@click.option(
    "--backend",
    "backends",
    type=click.Choice(["PyTorch", "ONNX", "FP32", "FP16", "INT8"], case_sensitive=False),
    multiple=True,
    show_default="all that are there",
    help="Evaluate this model. Repeatable.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many images.")
@click.option("--skip-bad", is_flag=True, help="Leave images out that cannot be used, instead of stopping.")
@click.option("--max-drop", type=click.FloatRange(0, 100), help="Points of mIoU that a model may lose: else exit 16.")
@click.option("--resume", is_flag=True, help="Go on with what an interrupted evaluation has counted.")
@click.option("--ray", metavar="ADDRESS", help="Spread the work over this Ray cluster; local: one on this machine.")
@_force
@_progress
def evaluate(
    model: str,
    output_dir: Path,
    checkpoint: Optional[Path],
    allow_unknown_checkpoint: bool,
    force: bool,
    progress: str,
    as_json: bool,
    **choice: Any,
) -> None:
    """Measure the mean IoU of PyTorch, ONNX and IR on annotated images, all in one pass.

    Without --dataset, on the images that come with the model. --max-drop counts from PyTorch if it is evaluated in
    the same pass, else from the figure that the model's card states for the protocol.

    \b
    Example:
      pspnet-convert evaluate --dataset VOCdevkit/VOC2012 --protocol pad --max-drop 0.5
    """
    from pspnet_convert.evaluation_inputs import Choice

    asked = Choice(**choice)
    with _job(model, output_dir, progress, checkpoint, allow_unknown_checkpoint, force=force) as job:
        _print_evaluated(job.evaluate(asked), asked.max_drop, as_json)


@_command
@click.option("--check", "manifest", type=_FILE, required=True, help="The manifest whose files are made again.")
@click.option("--checkpoint", type=_FILE, help="Its checkpoint, where that does not lie beside it.")
@_progress
def rebuild(manifest: Path, checkpoint: Optional[Path], progress: str, as_json: bool) -> None:
    """Convert again as a manifest says, in a temporary folder, and compare the digests.

    Exit code 0: the same files; 19: others. Tools whose versions are not the manifest's are named.

    \b
    Example:
      pspnet-convert rebuild --check public/pspnet-pytorch/manifest.json
    """
    from pspnet_convert.printing import print_table, rebuild_table
    from pspnet_convert.progress import make_progress
    from pspnet_convert.rebuild import check_same
    from pspnet_convert.rebuild import rebuild as convert_again

    result = convert_again(manifest, checkpoint, make_progress(progress, sys.stderr))
    if as_json:
        _print_json(result.as_dict())
    else:
        print_table(rebuild_table(result))
    check_same(manifest, result)


@_command
@_model
@click.option("-o", "--output", "target", type=_FILE, show_default="<model>.tar.gz", help="The archive to write.")
@_where("--output-dir")
@click.option("--builder-id", metavar="URI", show_default="the tool's", help="Who converted, for the provenance.")
@click.option("--allow-unverified", is_flag=True, help="Pack what has not passed verification as well.")
@_progress
def bundle(
    model: str,
    target: Optional[Path],
    output_dir: Path,
    builder_id: Optional[str],
    allow_unverified: bool,
    progress: str,
    as_json: bool,
) -> None:
    """Pack the verified IRs with card, licence, manifest, provenance, SBOM and page into one .tar.gz.

    Exit code 20: the IRs have not passed verification as they lie there.

    \b
    Example:
      pspnet-convert bundle demo -o demo.tar.gz
    """
    from pspnet_convert.bundle import bundle as pack
    from pspnet_convert.catalog import find_card
    from pspnet_convert.printing import bundle_table, print_table
    from pspnet_convert.progress import make_progress
    from pspnet_convert.workspace import Workspace

    card = find_card(model)
    workspace = Workspace(output_dir, card.name)
    with workspace.locked():
        packed = pack(
            card,
            workspace,
            target,
            make_progress(progress, sys.stderr),
            builder_id=builder_id,
            allow_unverified=allow_unverified,
        )
    if as_json:
        _print_json(packed.as_dict())
    else:
        print_table(bundle_table(packed))


@contextmanager
def _job(
    model: str,
    output_dir: Path,
    progress: str,
    checkpoint: Optional[Path] = None,
    allow_unknown: bool = False,
    *,
    force: bool,
) -> Iterator[Conversion]:
    from pspnet_convert.catalog import find_card
    from pspnet_convert.pipeline import CheckpointChoice, conversion
    from pspnet_convert.progress import make_progress

    choice = CheckpointChoice(checkpoint, allow_unknown)
    with conversion(find_card(model), output_dir, make_progress(progress, sys.stderr), choice, force=force) as job:
        yield job


def _print_outcomes(job: Conversion, outcomes: Sequence[Outcome], as_json: bool) -> None:
    from pspnet_convert.printing import print_table, stage_table

    if as_json:
        _print_json([outcome.as_dict() for outcome in outcomes])
    else:
        print_table(stage_table(outcomes, job.workspace.folder))


def _print_verified(job: Conversion, outcomes: Sequence[Outcome], as_json: bool, junit: Optional[Path]) -> None:
    from pspnet_convert.printing import print_table, stage_table, verification_table

    result = outcomes[-1].record.result
    if junit is not None:
        from pspnet_convert.junit import junit_xml
        from pspnet_convert.workspace import write_text

        write_text(junit, junit_xml(job.card.name, result))
    if as_json:
        _print_json({"verdict": result["verdict"], "stages": [outcome.as_dict() for outcome in outcomes]})
    else:
        if len(outcomes) > 1:
            print_table(stage_table(outcomes, job.workspace.folder))
        print_table(verification_table(result))
        print(f"verdict: {result['verdict']}   manifest: {job.workspace.manifest}")
        if len(outcomes) > 1:
            print(f"page: {job.workspace.report}")
    if result["verdict"] == "mismatch":
        wrong = next(row for row in result["comparisons"] if not (row["passed"] or row["informative"]))
        faults = [f"{check['name']}: {fault}" for check in wrong["checks"] for fault in check["faults"]]
        raise MismatchError(
            f"{wrong['backend']} is not the reference's equal: {(faults or ['nothing compared'])[0]}",
            "Do not ship it; --json lists all faults, --save-diff draws them.",
        )
    if result["verdict"] == "inconclusive":
        raise InconclusiveError(
            (result["doubts"] or ["nothing was compared"])[0], "Add pictures of its classes with --images."
        )


def _print_int8(job: Conversion, outcomes: Sequence[Outcome], max_drop: Optional[float], as_json: bool) -> None:
    from pspnet_convert.int8_check import check_drop
    from pspnet_convert.printing import evaluation_table, int8_table, print_table, stage_table

    _, verified, *evaluated = outcomes
    result = verified.record.result
    if as_json:
        _print_json({"verdict": result["verdict"], "stages": [outcome.as_dict() for outcome in outcomes]})
    else:
        print_table(stage_table(outcomes, job.workspace.folder))
        print_table(int8_table(result))
        for outcome in evaluated:
            print_table(evaluation_table(outcome.record.result))
        print(f"verdict: {result['verdict']}   manifest: {job.workspace.manifest}")
    if result["verdict"] == "mismatch":
        raise MismatchError(
            f"the INT8 IR does not agree with the FP32 IR: {result['faults'][0]}",
            "Calibrate it with more pictures, or such as the model will see (--calibration).",
        )
    if result["verdict"] == "inconclusive":
        raise InconclusiveError(
            "the FP32 IR sees one class everywhere, so that a wrong model could agree with it",
            "Name a folder with pictures of its classes with --calibration.",
        )
    if max_drop is not None:
        check_drop(evaluated[0].record.result, max_drop)


def _print_evaluated(outcome: Outcome, max_drop: Optional[float], as_json: bool) -> None:
    from pspnet_convert.evaluate import check_drop
    from pspnet_convert.printing import class_table, evaluation_notes, evaluation_table, print_table

    result = outcome.record.result
    if as_json:
        _print_json(outcome.as_dict())
    else:
        print_table(evaluation_table(result))
        print_table(class_table(result))
        for line in evaluation_notes(result):
            print(line)
    if max_drop is not None:
        check_drop(result, max_drop)


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


@contextmanager
def _errors_in_one_line(debug: bool, *, as_json: bool) -> Iterator[None]:
    try:
        yield
    except ConvertError as error:
        if debug:
            logging.getLogger(__name__).debug("traceback", exc_info=True)
        has_printed = isinstance(error, (MismatchError, InconclusiveError, AccuracyError, DifferenceError))
        if as_json and not has_printed:
            _print_json({"error": error.what, "advice": error.advice, "exit_code": error.exit_code})
        _leave(error.what + (f". {error.advice}" if error.advice else ""), error.exit_code)
    except KeyboardInterrupt:
        _leave("interrupted; the next run goes on where this one stopped (evaluate: with --resume)", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read stdout has gone; nothing is wrong.
        _give_up_stdout()
    except click.ClickException:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            _give_up_stdout()
            _leave(f"the output cannot be written: {error.strerror}. Make room for it", WorkspaceError.exit_code)
        if debug:
            raise
        _leave(f"unexpected {type(error).__name__}: {error}. This is a bug; --debug shows where", 1)


def _give_up_stdout() -> None:
    """Python must not flush into it once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(line: str, exit_code: int) -> NoReturn:
    print(f"error: {printable(line)}", file=sys.stderr)
    sys.exit(exit_code)


def _set_up_logging(debug: bool) -> None:
    ours = logging.getLogger("pspnet_convert")
    ours.setLevel(logging.DEBUG if debug else logging.INFO)
    ours.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s" if debug else "%(message)s"))
    ours.handlers = [handler]


def main() -> None:
    # A process that ends looks for garbage in all that torch and mmsegmentation made: most of a second, for nothing.
    atexit.register(gc.freeze)
    cli()
