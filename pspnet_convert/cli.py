"""The command line: the program and its commands, which commands/ defines."""

from __future__ import annotations

import atexit
import gc
import io
import sys

import click

from pspnet_convert import __version__
from pspnet_convert.commands import converting, handing_on, using
from pspnet_convert.commands.guard import clean_up_when_terminated


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pspnet-convert")
def cli() -> None:
    """PSPNet from a PyTorch checkpoint to verified OpenVINO IR.

    MODEL is a name that list shows (pspnet-pytorch, demo, mmsegmentation's) or the path of a model.yml.

    \b
    Example:
      pspnet-convert run demo
    """


for _one in (
    using.list_,
    using.info,
    converting.download,
    converting.export_onnx,
    converting.to_ir,
    converting.verify,
    converting.run,
    converting.quantize,
    using.report,
    using.segment,
    using.benchmark,
    using.evaluate,
    handing_on.rebuild,
    handing_on.bundle,
):
    cli.add_command(_one)


def main() -> None:
    # A process that ends looks for garbage in all that torch and mmsegmentation made: most of a second, for nothing.
    atexit.register(gc.freeze)
    clean_up_when_terminated()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may have what cannot be printed
            stream.reconfigure(errors="backslashreplace")
    cli()
