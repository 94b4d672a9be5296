"""What `benchmark` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pspnet_convert.commands.benchmark.figures import Timing
    from pspnet_convert.commands.benchmark.layers import LayerTimes
    from pspnet_convert.commands.benchmark.limits import Limit
    from pspnet_convert.commands.benchmark.startup import Startup
    from pspnet_convert.commands.benchmark.throughput import Throughput


@dataclass(frozen=True)
class Benchmark:
    """The figures of a benchmark. `rounds`: how many were run, on the processor that took most. `remarks`: what the
    reader must know of the figures.

    `others`: the part, 0..1, of the processors' time that other programs took; None where the system does not say.
    `layers`, `throughput`, `startup`: empty unless asked for.
    """

    rounds: int
    others: float | None
    timings: Sequence[Timing]
    limits: Sequence[Limit]
    remarks: Sequence[str]
    layers: Sequence[LayerTimes] = ()
    throughput: Sequence[Throughput] = ()
    startup: Sequence[Startup] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "rounds": self.rounds,
            "others": self.others,
            "timings": [row.as_dict() for row in self.timings],
            "limits": [row.as_dict() for row in self.limits],
            "remarks": list(self.remarks),
            "layers": [row.as_dict() for row in self.layers],
            "throughput": [row.as_dict() for row in self.throughput],
            "startup": [row.as_dict() for row in self.startup],
        }
