"""The command line: the program and its commands."""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys

import click

from pspnet_convert import __version__
from pspnet_convert.command_line import clean_up_when_terminated
from pspnet_convert.commands.benchmark.command import benchmark
from pspnet_convert.commands.bundle.command import bundle
from pspnet_convert.commands.check.command import check
from pspnet_convert.commands.doctor.command import doctor
from pspnet_convert.commands.download.command import download
from pspnet_convert.commands.evaluate.command import evaluate
from pspnet_convert.commands.export_onnx.command import export_onnx
from pspnet_convert.commands.info.command import info
from pspnet_convert.commands.list.command import list_models
from pspnet_convert.commands.quantize.command import quantize
from pspnet_convert.commands.rebuild.command import rebuild
from pspnet_convert.commands.report.command import report
from pspnet_convert.commands.run.command import run
from pspnet_convert.commands.segment.command import segment
from pspnet_convert.commands.to_ir.command import to_ir
from pspnet_convert.commands.verify.command import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pspnet-convert")
def cli() -> None:
    """PSPNet from a PyTorch checkpoint to verified OpenVINO IR.

    MODEL is a name that `list` shows (pspnet-pytorch, demo, mmsegmentation's) or the path of a model.yml.

    \b
    Example:
      pspnet-convert run demo
    """


for _command in (
    list_models,
    info,
    download,
    export_onnx,
    to_ir,
    verify,
    run,
    quantize,
    report,
    segment,
    benchmark,
    evaluate,
    rebuild,
    bundle,
    check,
    doctor,
):
    cli.add_command(_command.click_command())


def main() -> None:
    """Run the program."""
    # A process that ends looks for garbage in all that torch and mmsegmentation made: most of a second, for nothing.
    atexit.register(gc.freeze)
    clean_up_when_terminated()
    # torch's threads would go on taking time between its operations, while converted models run in other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may have characters that cannot be printed
            stream.reconfigure(errors="backslashreplace")
    cli()
