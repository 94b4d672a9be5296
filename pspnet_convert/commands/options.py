"""The arguments and options that commands share, each a decorator; and the job that they ask for."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pspnet_convert.progress import MODES

if TYPE_CHECKING:
    from pspnet_convert.cards.card import ModelCard
    from pspnet_convert.job import Job
    from pspnet_convert.runtimes.input_form import ImageShape

# What others say too (workspace.py, card.py, input_form.py, quantize.py), but --help would wait for what they import.
PRECISIONS = ("FP32", "FP16")
INT8 = "INT8"
MAX_SIDE = 8192
MAX_BATCH = 64
SUBSET = 300


class _Shape(click.ParamType):
    name = "1,3,H,W"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ImageShape:
        try:
            batch, channels, height, width = (int(part) for part in str(value).strip("[]").split(","))
        except ValueError:
            self.fail(f"{value!r} is not four numbers: 1,3,HEIGHT,WIDTH", param, ctx)
        if channels == 3 and batch > 1:
            self.fail(f"{value!r} is of several images: say 1,3,{height},{width} and --batch {batch}", param, ctx)
        if (batch, channels) != (1, 3) or not all(8 <= side <= MAX_SIDE for side in (height, width)):
            self.fail(f"{value!r} is not 1,3,HEIGHT,WIDTH with sides of 8 to {MAX_SIDE}", param, ctx)
        return 1, 3, height, width


class _Batch(click.ParamType):
    name = "N|dynamic"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "dynamic":
            return -1  # input_form.DYNAMIC
        text = str(value)
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_BATCH:
            self.fail(f"{value!r} is neither a number from 1 to {MAX_BATCH} nor dynamic", param, ctx)
        return int(text)


class _MoArgument(click.ParamType):
    name = "NAME[=VALUE]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name, equals, text = str(value).lstrip("-").partition("=")
        if not name:
            self.fail("has no name", param, ctx)
        return name, text if equals else True


def combine_options(*decorators: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """All `decorators` as one, in the order in which --help shows them."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
model = click.argument("model", default="pspnet-pytorch")
where = functools.partial(
    click.option,
    type=click.Path(path_type=Path, file_okay=True),
    default=Path(),
    show_default="the current folder",
    help="Where public/<model>/ lies.",
)
output_dir = where("-o", "--output-dir")
force = click.option("--force", is_flag=True, help="Do it again even if nothing has changed.")
progress = click.option(
    "--progress",
    type=click.Choice(MODES),
    default="auto",
    show_default=True,
    help="auto: a bar on a terminal; json: one event a line on stdout.",
)
images = click.option("--images", type=FILE, multiple=True, help="Verify on this picture as well. Repeatable.")
junit = click.option("--junit", type=FILE, metavar="FILE", help="Write the verification as JUnit XML, for CI.")
precision = click.option(
    "--precision",
    "precisions",
    type=click.Choice(PRECISIONS),
    multiple=True,
    default=PRECISIONS,
    show_default="both",
    help="FP16 compresses the weights. Repeatable.",
)
input_shape = click.option(
    "--input-shape", "shape", type=_Shape(), show_default="the card's", help="The image's shape."
)
batch = click.option(
    "--batch", type=_Batch(), default=1, show_default=True, help="Images at a time; dynamic: as many as one likes."
)
input_form = combine_options(
    click.option(
        "--input-type",
        type=click.Choice(["u8", "f32"]),
        default="f32",
        show_default=True,
        help="What the IR takes: bytes, or float32 of 0..255.",
    ),
    click.option(
        "--input-layout",
        type=click.Choice(["NCHW", "NHWC"]),
        default="NCHW",
        show_default=True,
        help="NHWC: the channels last, as in a picture.",
    ),
)


source = combine_options(
    click.option(
        "--source",
        "sources",
        multiple=True,
        envvar="PSPNET_CONVERT_SOURCE",
        show_envvar=True,
        metavar="URL_OR_DIR",
        help="Try this place first: http(s)://, file://, a folder or a file. Repeatable.",
    ),
    click.option(
        "--allow-http-redirect",
        is_flag=True,
        help="Follow a redirect from https to plain http; the digest is checked.",
    ),
)
config = click.option(
    "--config",
    type=FILE,
    help="Your own mmsegmentation PSPNet's config, instead of MODEL; it is Python, and is run.",
)
own_checkpoint = click.option("--checkpoint", type=FILE, help="The checkpoint that goes with --config.")
checkpoint = combine_options(
    click.option("--checkpoint", type=FILE, help="A checkpoint that is here already, instead of the download."),
    click.option("--allow-unknown-checkpoint", is_flag=True, help="Take it though its digest is not the card's."),
)
front_end = combine_options(
    click.option(
        "--front-end",
        type=click.Choice(("auto", "mo", "ovc")),
        default="auto",
        show_default=True,
        help="mo: Model Optimizer; ovc: OpenVINO's own converter; auto: mo where it is installed, else ovc.",
    ),
    click.option(
        "--mo-arg",
        "mo_args",
        type=_MoArgument(),
        multiple=True,
        help="A further argument of Model Optimizer, by its Python name. Repeatable.",
    ),
)
export = combine_options(
    input_shape,
    batch,
    click.option("--opset", type=int, default=18, show_default=True, help="ONNX opset, 18 to 23."),
    click.option("--int32", is_flag=True, help="A label map of int32 instead of int64."),
    click.option(
        "--fold-pyramid/--no-fold-pyramid",
        default=True,
        show_default=True,
        help="Export the pyramid head folded (faster, the same logits), or as written.",
    ),
)


def refuse(*names: str, because: str) -> None:
    """UsageError if one of these options of the command at work was given."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} {because}.")


@contextmanager
def job_of(
    model: str,
    output_dir: Path,
    progress: str,
    checkpoint: Path | None = None,
    allow_unknown: bool = False,
    *,
    config: Path | None = None,
    force: bool,
) -> Iterator[Job]:
    """The job for what the user gave, in a block; its bar is on stderr. The card of a `config` stays in its folder."""
    from pspnet_convert.job import CheckpointChoice, open_job
    from pspnet_convert.progress import make_progress

    choice = CheckpointChoice(checkpoint, allow_unknown)
    card = _card_of(model, output_dir, config, checkpoint)
    with open_job(card, output_dir, make_progress(progress, sys.stderr), choice, force=force) as job:
        if config is not None:
            from pspnet_convert.cards.own_model import keep_card

            keep_card(job.card, job.workspace.folder)
        yield job


def _card_of(model: str, output_dir: Path, config: Path | None, checkpoint: Path | None) -> ModelCard:
    if config is None:
        from pspnet_convert.cards.catalog import find_card

        return find_card(model)
    if click.get_current_context().get_parameter_source("model") is not ParameterSource.DEFAULT:
        raise click.UsageError(f"MODEL ({model}) and --config say two things; give one of them.")
    of_downloads = "sources", "allow_http_redirect", "allow_unknown_checkpoint"
    refuse(*of_downloads, because="is not for --config, whose checkpoint is the one that is given with it")
    if checkpoint is None:
        raise click.UsageError("--config needs the checkpoint that goes with it: --checkpoint FILE.")
    from pspnet_convert.cards.own_model import own_card, with_kept_texts
    from pspnet_convert.pytorch.checkpoint import read_metadata
    from pspnet_convert.workspace import Workspace

    card = own_card(config, checkpoint, read_metadata(checkpoint))
    return with_kept_texts(card, Workspace(output_dir, card.name).folder)
