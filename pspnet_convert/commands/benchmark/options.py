"""The options of `benchmark`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pspnet_convert.device import device_option
from pspnet_convert.options import FILE, Options, option
from pspnet_convert.processor import processor_option

FOLDED, WINOGRAD = "folded", "winograd"
# plain: what torch's exporter writes by itself; unfolded: with exact pools (--no-fold-pyramid); folded: the default;
# winograd: that with `to-ir --winograd auto`, which is for float32.
GRAPHS = ("plain", "unfolded", FOLDED, WINOGRAD)
AUTO = 0


class RoundsType(click.ParamType):
    """A number of rounds, or `auto`, which is AUTO."""

    name = "rounds"
    _number = click.IntRange(1, 1000)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "auto":
            return AUTO
        if type(value) is int or str(value).isdecimal():
            return int(self._number.convert(value, param, ctx))
        return self.fail(f"{value!r} is neither a number from 1 to 1000 nor auto", param, ctx)


@dataclass(frozen=True)
class BenchmarkOptions(Options):
    """What is timed, and how often."""

    rounds: int = option(
        7,
        group="Benchmark",
        type=RoundsType(),
        help="Turns of each model. auto: 5 to 30, until each ratio is known to 5 %.",
    )
    graph: tuple[str, ...] = option(
        (),
        group="Benchmark",
        type=click.Choice(GRAPHS),
        multiple=True,
        show_default="all",
        help="Time this graph. Can be repeated.",
    )
    int8: bool = option(False, group="Benchmark", help="Also time the folded graph in INT8. Needs NNCF.")
    layers: bool = option(
        False, group="Benchmark", help="Also the time of each layer of the IR, its kernel, and its part of the limit."
    )
    throughput: bool = option(False, group="Benchmark", help="Also images a second with several requests at once.")
    startup: bool = option(
        False, group="Benchmark", help="Also the time from nothing to the first answer, without and with a model cache."
    )
    device: str = device_option("Benchmark", "The device of OpenVINO's that runs the IRs")
    processor: str | None = processor_option("Benchmark")
    plot: Path | None = option(None, group="Output", type=FILE, help="Draw a bar chart into this PNG file.")
