"""The options of `bundle`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pspnet_convert.errors import OptionError
from pspnet_convert.options import FILE, Options, option


class Uri(click.ParamType):
    name = "URI"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", str(value)):  # RFC 3986: a scheme, and no blanks
            self.fail(f"{value!r} is no URI, such as https://ci.example/builder", param, ctx)
        return str(value)


@dataclass(frozen=True)
class BundleOptions(Options):
    """The archive, and what may go into it."""

    output: Path | None = option(
        None,
        "-o",
        "--output",
        group="Output",
        type=FILE,
        show_default="<model>.tar.gz, or <model>-ovms.tar.gz",
        help="The archive to write.",
    )
    layout: str = option(
        "omz",
        group="Output",
        type=click.Choice(["omz", "ovms"]),
        help="omz: the folder of Open Model Zoo's tools, with all IRs. ovms: a model repository of OpenVINO Model "
        "Server, with one IR and config.json.",
    )
    precision: str | None = option(
        None,
        group="Input",
        type=click.Choice(["FP32", "FP16", "INT8"]),
        show_default="FP16, or FP32 where that is all",
        help="With --layout ovms: the IR that is served.",
    )
    output_dir: Path = option(
        Path(),
        group="Input",
        type=click.Path(path_type=Path),
        show_default="the current folder",
        help="The folder that holds public/<model>/.",
    )
    builder_id: str | None = option(
        None,
        group="Output",
        type=Uri(),
        show_default="the tool's",
        help="A URI that names who ran the conversion. It is written into the provenance.",
    )
    sign: Path | None = option(
        None,
        group="Output",
        type=FILE,
        metavar="KEY",
        help="Sign the provenance with this private Ed25519 key, a PEM file.",
    )
    allow_unverified: bool = option(False, group="Input", help="Also pack models that have not passed verification.")

    def __post_init__(self) -> None:
        if self.precision is not None and self.layout != "ovms":
            raise OptionError("--precision goes with --layout ovms", "Without it all IRs are packed.")
