"""From nothing to the first answer: what a process that starts does. Imports nothing that it has to time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Started:
    """What the process holds. `seconds`: import, read, compile, first; `precision` as in timing.Loaded."""

    precision: str
    seconds: Mapping[str, float]
    from_cache: bool


def start(path: str, device: str, settings: Mapping[str, str]) -> Started:
    """Run the IR at `path` once on `device`, on black images. With CACHE_DIR among `settings`, OpenVINO reads what
    it compiled before, and the IR not at all."""
    clock = [time.perf_counter()]
    import openvino

    core = openvino.Core()
    clock.append(time.perf_counter())
    model = path if "CACHE_DIR" in settings else core.read_model(path)
    clock.append(time.perf_counter())
    compiled = core.compile_model(model, device, dict(settings))
    clock.append(time.perf_counter())
    import numpy as np

    image = np.zeros(compiled.inputs[0].shape, compiled.inputs[0].element_type.to_dtype())
    compiled([image])
    clock.append(time.perf_counter())
    seconds = dict(zip(("import", "read", "compile", "first"), (end - start for start, end in pairwise(clock))))
    from pspnet_convert.runtimes.read_back import computed_in

    return Started(computed_in(compiled), seconds, bool(compiled.get_property("LOADED_FROM_CACHE")))


def started(process: Started) -> Started:
    """What happened."""
    return process
