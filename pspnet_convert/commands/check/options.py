"""The options of `check`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from pspnet_convert.device import device_option
from pspnet_convert.options import FILE, Options, argument, option, timeout_option


@dataclass(frozen=True)
class CheckOptions(Options):
    """Which bundle, by which key, on which device."""

    bundle: Path | None = argument(None, type=click.Path(path_type=Path), required=True)
    key: Path | None = option(
        None,
        group="Input",
        type=FILE,
        help="The public key, a PEM file, of the one who must have signed the bundle.",
    )
    device: str = device_option("Verification", "The device of OpenVINO's that runs the self-test")
    timeout: int = timeout_option("The longest that the self-test may take.")
