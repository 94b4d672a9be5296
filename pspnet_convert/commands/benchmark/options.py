"""The options of `benchmark`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from pspnet_convert.options import FILE, Options, option
from pspnet_convert.processor import processor_option


@dataclass(frozen=True)
class BenchmarkOptions(Options):
    """What is timed, and how often."""

    rounds: int = option(7, group="Benchmark", type=click.IntRange(1, 1000), help="Turns of each model.")
    int8: bool = option(False, group="Benchmark", help="Also time the folded graph in INT8. Needs NNCF.")
    processor: str | None = processor_option("Benchmark")
    plot: Path | None = option(None, group="Output", type=FILE, help="Draw a bar chart into this PNG file.")
