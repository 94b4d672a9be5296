"""Images a second with several requests in flight, as a server runs a model, next to one request at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pspnet_convert.commands.benchmark.figures import Setting
from pspnet_convert.commands.benchmark.ratios import Ratio, ratio
from pspnet_convert.runtimes.read_back import read_back
from pspnet_convert.runtimes.timing import Contestant, Subject, computed_in, contestant, ir_settings, noise, run_round

if TYPE_CHECKING:
    from pspnet_convert.cards.card import ModelCard
    from pspnet_convert.runtimes.input_form import ImageShape

_RUNS = 2  # of each request in a turn


@dataclass(frozen=True)
class Throughput:
    """`requests` in flight in `streams` of OpenVINO (None where the device does not report them): medians of the
    rounds, of all requests together.

    `ratio`: how many times as many images a second as one request at a time, `one_images_per_second`.
    """

    graph: str
    weights: str
    at: str
    precision: str
    requests: int
    streams: int | None
    images_per_second: float
    one_images_per_second: float
    ratio: Ratio
    peak_memory_mb: float

    @property
    def name(self) -> str:
        """For messages."""
        return f"IR {self.graph} {self.weights} at {self.at} in streams"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def time_throughput(setting: Setting, subject: Subject, rounds: int) -> Throughput:
    """Time an IR both ways in `rounds` rounds, after one to warm up."""
    arguments = (setting.card, setting.shape, subject)
    with contestant(*arguments) as one, Contestant(subject.name, load_streams, arguments) as several:
        requests, streams = several.call(numbers)
        turns = [run_round([one, several], setting.note) for _ in range(rounds + 1)]
        seconds = np.array(turns[1:])
        seconds[:, 1] /= _RUNS * requests  # of one run
        alone, together = setting.shape[0] / np.median(seconds, axis=0)
        return Throughput(
            subject.graph,
            subject.weights,
            subject.at,
            several.precision,
            requests,
            streams,
            float(together),
            float(alone),
            ratio(seconds[:, 0], seconds[:, 1]),
            several.peak_memory() / 1e6,
        )


@dataclass(frozen=True)
class Streams:
    """What the process holds; see timing.Loaded."""

    run: Callable[[], Any]
    precision: str
    requests: int
    streams: int | None


def load_streams(card: ModelCard, shape: ImageShape, subject: Subject) -> Streams:
    """Compile an IR for throughput, with as many requests as OpenVINO advises."""
    import openvino

    core = openvino.Core()
    settings = {**ir_settings(core, subject), "PERFORMANCE_HINT": "THROUGHPUT"}
    compiled = core.compile_model(str(subject.path), subject.device, settings)
    requests = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    queue = openvino.AsyncInferQueue(compiled, requests)
    image = noise(shape, subject)

    def run() -> None:
        for _ in range(_RUNS * requests):
            queue.start_async([image])
        queue.wait_all()

    streams = read_back(compiled, "NUM_STREAMS")
    return Streams(run, computed_in(compiled, subject), requests, sum(map(int, streams)) if streams else None)


def numbers(loaded: Streams) -> tuple[int, int | None]:
    """The requests and streams."""
    return loaded.requests, loaded.streams
