"""The time from nothing to an IR's first answer, in processes that each start anew, without and with a model cache.

OpenVINO's cache (CACHE_DIR) holds the compiled model: later starts read that. The files are in the system's cache of
files, as they are just after they were written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pspnet_convert.commands.benchmark.figures import Setting
from pspnet_convert.commands.benchmark.startup_process import Started, start, started
from pspnet_convert.runtimes.timing import Contestant, Subject, ir_settings


@dataclass(frozen=True)
class Startup:
    """Medians of the rounds, ms. `import_ms`: Python's import of OpenVINO; `read_ms`: of the IR, 0 from the cache;
    `first_ms`: the first answer. `cache_mb`: the cache's files, 10^6 bytes; None without one."""

    graph: str
    weights: str
    at: str
    import_ms: float
    read_ms: float
    compile_ms: float
    first_ms: float
    peak_memory_mb: float
    cache_mb: float | None

    @property
    def total_ms(self) -> float:
        return self.import_ms + self.read_ms + self.compile_ms + self.first_ms

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "total_ms": self.total_ms}


def time_startup(setting: Setting, subject: Subject, folder: Path, rounds: int) -> list[Startup]:
    """A row without the cache and one with it, which is written into `folder`; `rounds` starts of each, in turns."""
    import openvino

    plain = ir_settings(openvino.Core(), subject)
    cached = {**plain, "CACHE_DIR": str(folder)}
    _start(subject, cached)  # reads the library's files, writes the cache
    turns = []
    for _ in range(rounds):
        turns.append((_start(subject, plain), _start(subject, cached)))
        setting.note()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    without, with_cache = zip(*turns)
    has_cache = all(one.from_cache for one, _ in with_cache)
    return [_row(subject, without, None), *([_row(subject, with_cache, size)] if has_cache else [])]


def _start(subject: Subject, settings: dict[str, Any]) -> tuple[Started, float]:
    with Contestant(f"start of {subject.name}", start, (str(subject.path), subject.device, settings)) as process:
        return process.call(started), process.peak_memory()


def _row(subject: Subject, turns: Sequence[tuple[Started, float]], cache_mb: float | None) -> Startup:
    def ms(step: str) -> float:
        return 1000 * median(one.seconds[step] for one, _ in turns)

    return Startup(
        subject.graph,
        subject.weights,
        subject.at,
        ms("import"),
        ms("read"),
        ms("compile"),
        ms("first"),
        median(memory for _, memory in turns) / 1e6,
        cache_mb,
    )
