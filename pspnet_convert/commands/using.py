"""The commands that look at what there is: a card, a run's page, and what a converted model says and costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pspnet_convert.commands import options
from pspnet_convert.commands.guard import command
from pspnet_convert.commands.options import FILE, FOLDER, combine_options, job_of
from pspnet_convert.commands.output import print_evaluated, print_json


@command
@options.model
@click.option("--omz-json", is_flag=True, help="Print it as Open Model Zoo's omz_info_dumper prints its models.")
def info(model: str, omz_json: bool, as_json: bool) -> None:
    """Print a model's card.

    \b
    Example:
      pspnet-convert info demo --json
    """
    from pspnet_convert.cards.catalog import find_card
    from pspnet_convert.cards.omz_info import omz_info
    from pspnet_convert.tables import card_table, print_table

    card = find_card(model)
    if omz_json:
        print_json([omz_info(card)])
    elif as_json:
        print_json(card.model_dump(mode="json", exclude_none=True))
    else:
        print_table(card_table(card))


@command
@click.option("--dataset", default="", metavar="TEXT", help="Only models whose dataset's name has this in it.")
@click.option("--backbone", default="", metavar="TEXT", help="Only models whose backbone's name has this in it.")
@click.option("--search", default="", metavar="TEXT", help="Only models with this in name, dataset or backbone.")
def list_(dataset: str, backbone: str, search: str, as_json: bool) -> None:
    """List the models that MODEL can be: those that come with the tool, and all of mmsegmentation's with PSPNet's head.

    The filters do not mind capital letters. sha256 is how the checkpoint's digest begins.

    \b
    Example:
      pspnet-convert list --dataset cityscapes --backbone r-50
    """
    from pspnet_convert.cards.catalog import listed
    from pspnet_convert.tables import CATALOG_WIDTH, catalog_table, print_table

    models = listed(dataset, backbone, search)
    if not models:
        click.echo("no model fits; list without filters shows all", err=True)
    if as_json:
        print_json([model.as_dict() for model in models])
    elif models:
        print_table(catalog_table(models), CATALOG_WIDTH)


@command
@combine_options(options.model, options.output_dir)
def report(model: str, output_dir: Path, as_json: bool) -> None:
    """Write the page of what was done so far, public/<model>/report.html, from the manifest.

    \b
    Example:
      pspnet-convert report demo -o models
    """
    with job_of(model, output_dir, "none", force=False) as job:
        page = job.write_page()
    if as_json:
        print_json({"report": str(page)})
    else:
        print(page)


@command
@click.argument("images", type=FILE, nargs=-1, required=True)
@click.option("--model", default="pspnet-pytorch", show_default=True, help="Whose IR to use.")
@click.option("--precision", type=click.Choice([*options.PRECISIONS, options.INT8]), default="FP32", show_default=True)
@options.output_dir
def segment(images: Sequence[Path], model: str, precision: str, output_dir: Path, as_json: bool) -> None:
    """Segment pictures with the IR: an overlay with a legend, and a palette PNG of each.

    They are written to public/<model>/segmented/.

    \b
    Example:
      pspnet-convert segment photo.jpg --model demo
    """
    from pspnet_convert.runtimes.backends import OpenVinoBackend
    from pspnet_convert.segment.paint import segment as segment_images
    from pspnet_convert.tables import print_table, segment_table

    with job_of(model, output_dir, "none", force=False) as job:
        shape = job.exported_shape()
        backend = OpenVinoBackend(job.ir(precision), job.card, shape, job.input_form())
        done = list(segment_images(backend, job.card, shape, images, job.workspace.folder / "segmented"))
    if as_json:
        print_json(
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


@command
@combine_options(options.model, options.output_dir, options.config, options.checkpoint)
@click.option("--rounds", type=click.IntRange(1, 1000), default=7, show_default=True, help="Turns of each model.")
@click.option("--int8", is_flag=True, help="The folded graph in INT8 as well; needs NNCF.")
@click.option("--plot", type=FILE, help="Draw a bar chart into this PNG file.")
@options.progress
def benchmark(
    model: str,
    output_dir: Path,
    config: Path | None,
    checkpoint: Path | None,
    allow_unknown_checkpoint: bool,
    rounds: int,
    int8: bool,
    plot: Path | None,
    progress: str,
    as_json: bool,
) -> None:
    """Time PyTorch, ONNX and IR in turns: the graph that torch exports by itself, and this tool's.

    \b
    Example:
      pspnet-convert benchmark demo --plot speed.png
    """
    from pspnet_convert.files import write_atomically
    from pspnet_convert.stages import timing
    from pspnet_convert.tables import benchmark_table, plot_benchmark, print_table

    with job_of(model, output_dir, progress, checkpoint, allow_unknown_checkpoint, config=config, force=False) as job:
        rows = timing.benchmark(job, rounds, int8=int8)
    if plot is not None:
        with write_atomically(plot) as (temporary,):
            plot_benchmark(rows, temporary)
    if as_json:
        print_json([row.as_dict() for row in rows])
    else:
        print_table(benchmark_table(rows))


@command
@combine_options(options.model, options.output_dir, options.config, options.checkpoint)
@click.option("--dataset", type=FOLDER, help="A folder in Pascal VOC's layout.")
@click.option("--split", default="val", show_default=True, help="Which list below ImageSets/Segmentation.")
@click.option(
    "--protocol",
    type=click.Choice(["crop", "pad", "whole"]),
    show_default="that of the card's first figure taken by one of these, else crop",
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
@options.force
@options.progress
def evaluate(
    model: str,
    output_dir: Path,
    config: Path | None,
    checkpoint: Path | None,
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
    from pspnet_convert.evaluate.inputs import Choice
    from pspnet_convert.stages import evaluation

    asked = Choice(**choice)
    with job_of(model, output_dir, progress, checkpoint, allow_unknown_checkpoint, config=config, force=force) as job:
        print_evaluated(evaluation.evaluate(job, asked), asked.max_drop, as_json)
