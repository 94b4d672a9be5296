"""The benchmark's bar chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pspnet_convert.commands.benchmark.figures import Timing
from pspnet_convert.commands.benchmark.options import FOLDED


def plot_benchmark(rows: Sequence[Timing], path: Path) -> None:
    """A bar chart of the median latencies, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.4 * len(rows) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = ["#1f77b4" if row.graph == FOLDED else "#b0b7bf" for row in rows]
    places = range(len(rows))
    bars = axes.barh(places, [row.median_ms for row in rows], color=colours, tick_label=[row.name for row in rows])
    axes.bar_label(bars, [_words(row) for row in rows], padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_xlabel("median latency of one batch, ms (x: against the plain IR at the same precision)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", dpi=120)


def _words(row: Timing) -> str:
    return f"{row.median_ms:.0f} ms" + ("" if row.ratio is None else f", {row.ratio.median:.2f}x")
