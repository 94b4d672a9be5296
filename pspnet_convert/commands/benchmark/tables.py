"""The benchmark's tables, at most 100 columns wide."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pspnet_convert.device import CPU
from pspnet_convert.errors import count
from pspnet_convert.tables import precision_words, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from pspnet_convert.commands.benchmark.figures import Timing
    from pspnet_convert.commands.benchmark.layers import Layer, LayerTimes
    from pspnet_convert.commands.benchmark.limits import Limit
    from pspnet_convert.commands.benchmark.result import Benchmark
    from pspnet_convert.commands.benchmark.startup import Startup
    from pspnet_convert.commands.benchmark.throughput import Throughput

WIDTH = 100
_LARGEST = 15  # layers in a table


def print_benchmark(result: Benchmark) -> None:
    """Print all tables, then the remarks."""
    for processor in dict.fromkeys(row.processor for row in result.timings):
        rows = [row for row in result.timings if row.processor == processor]
        print_table(timings_table(rows, processor), WIDTH)
        print_table(limits_table([limit for limit in result.limits if limit.processor == processor]), WIDTH)
    for layers in result.layers:
        print_table(layers_table(layers), WIDTH)
    if result.throughput:
        print_table(throughput_table(result.throughput), WIDTH)
    if result.startup:
        print_table(startup_table(result.startup), WIDTH)
    for remark in result.remarks:
        print(textwrap.fill(remark, WIDTH))
    sys.stdout.flush()


def timings_table(rows: Sequence[Timing], processor: str | None) -> Table:
    """`rows`: of one processor, which took turns."""
    device = next((row.device for row in rows if row.device not in (None, CPU)), None)
    on = f" as on {processor}" if processor else f", IRs on {device}" if device else ""
    table = _table(f"One batch{on}, medians of {count(rows[0].rounds, 'round')}", "model", "weights", "precision")
    for heading in ("ms", "img/s", "x\nplain", "quartiles", "file\nMB", "peak\nMB", "GFLOP", "GFLOP/s", "of\nlimit"):
        table.add_column(heading, justify="right")
    for row in rows:
        times, quartiles = ("", "") if row.ratio is None else (f"{row.ratio.median:.2f}", _span(row.ratio.quartiles))
        table.add_row(
            f"{row.runtime} {row.graph}",
            row.weights,
            precision_words(row.at, row.precision),
            _digits(row.median_ms),
            _digits(row.images_per_second),
            times,
            quartiles,
            f"{row.file_mb:.1f}",
            f"{row.peak_memory_mb:.0f}",
            _digits(row.gflops),
            f"{row.gflops_per_second:.0f}",
            _percent(row.share),
        )
    return table


def limits_table(limits: Sequence[Limit]) -> Table:
    table = _table("The limit: OpenVINO's fastest matrix product, on all cores", "precision")
    table.add_column("GFLOP/s", justify="right")
    for heading in ("product", "as", "kernel", "in theory"):
        table.add_column(heading)
    for one in limits:
        theory = "not known" if one.theory is None else f"{one.theory.gflops_per_second:.0f}: {one.theory.words}"
        speed = f"{one.gflops_per_second:.0f}"
        table.add_row(one.precision, speed, "x".join(map(str, one.size)), one.form, one.kernel, theory)
    return table


def layers_table(times: LayerTimes) -> Table:
    """The slowest layers, the others together, and what of the latency no layer has."""
    title = f"Layers of IR {times.graph} {times.weights}, {precision_words(times.at, times.precision)}, ms"
    table = _table(title)
    for heading, width in (("layer", 27), ("type", 11), ("kernel", 23)):
        table.add_column(heading, overflow="ellipsis", no_wrap=True, width=width)
    for heading, width in (("ms", 7), ("of all", 6), ("GFLOP", 5), ("GFLOP/s", 7), ("of\nlimit", 5)):
        table.add_column(heading, justify="right", no_wrap=True, width=width)
    slowest = sorted(times.layers, key=lambda layer: layer.ms, reverse=True)
    for layer in slowest[:_LARGEST]:
        table.add_row(*_layer(layer, times.profiled_ms))
    others = slowest[_LARGEST:]
    for name, ms in (
        (count(len(others), "other layer"), sum(layer.ms for layer in others)),
        ("between layers", times.profiled_ms - times.sum_ms),
    ):
        table.add_row(name, "", "", _ms(ms), f"{ms / times.profiled_ms:.1%}")
    table.add_section()
    table.add_row("all, with the profile", "", "", _ms(times.profiled_ms), "100.0%")
    table.add_row("without, in turns", "", "", _ms(times.latency_ms), f"{times.latency_ms / times.profiled_ms:.1%}")
    return table


def _layer(layer: Layer, all_ms: float) -> list[str]:
    name = layer.name.removesuffix("/WithoutBiases")  # OpenVINO's addition
    row = [name, layer.type, layer.kernel, _ms(layer.ms), f"{layer.ms / all_ms:.1%}"]
    if layer.gflops:
        row += [_digits(layer.gflops), f"{layer.gflops_per_second:.0f}", _percent(layer.share)]
    return row


def throughput_table(rows: Sequence[Throughput]) -> Table:
    table = _table("Several requests in flight", "model", "weights", "precision")
    for heading in ("requests", "streams", "img/s", "one at\na time", "x", "quartiles", "peak\nMB"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            f"IR {row.graph}",
            row.weights,
            precision_words(row.at, row.precision),
            str(row.requests),
            "" if row.streams is None else str(row.streams),
            _digits(row.images_per_second),
            _digits(row.one_images_per_second),
            f"{row.ratio.median:.2f}",
            _span(row.ratio.quartiles),
            f"{row.peak_memory_mb:.0f}",
        )
    return table


def startup_table(rows: Sequence[Startup]) -> Table:
    table = _table("From nothing to the first answer, ms", "model", "weights", "at", "cache")
    for heading in ("import", "read", "compile", "first\nanswer", "all", "peak\nMB"):
        table.add_column(heading, justify="right")
    for row in rows:
        steps = (row.import_ms, row.read_ms, row.compile_ms, row.first_ms, row.total_ms)
        cache = "none" if row.cache_mb is None else f"{row.cache_mb:.1f} MB"
        name = (f"IR {row.graph}", row.weights, row.at, cache)
        table.add_row(*name, *(f"{ms:.0f}" for ms in steps), f"{row.peak_memory_mb:.0f}")
    return table


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)


def _span(quartiles: tuple[float, float]) -> str:
    return "-".join(f"{one:.2f}" for one in quartiles)


def _digits(value: float) -> str:
    """Three digits and more."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _ms(value: float) -> str:
    return f"{value:.{1 if value >= 100 else 2}f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
