"""An evaluation's chunks as tasks of a Ray cluster, which gives a lost machine's chunks to another.

Every machine must have this tool installed, and see the models and the data set at the same paths.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from pspnet_convert.commands.evaluate.chunks import (
    Chunk,
    ChunkSettings,
    Mapper,
    Note,
    Tally,
    count_chunk,
    open_labellers,
)
from pspnet_convert.errors import ClusterError, ConvertError, DependencyError

_ADVICE = "Every machine needs pspnet-convert, and the same paths; --resume goes on with what is done."
_TIMEOUT = 10  # seconds


def run_on_ray(address: str) -> Mapper:
    """A Mapper on the Ray cluster at `address`; `local` starts one on this machine for as long as it works.

    Raises DependencyError without Ray, ClusterError if it cannot be reached or a chunk fails on it.
    """
    return partial(_on_cluster, address)


def _on_cluster(address: str, task: ChunkSettings, works: Sequence[Chunk], note: Note) -> Iterator[tuple[Chunk, Tally]]:
    with _connected(address) as ray:
        remote = ray.remote(_count_anew).options(num_cpus=_smallest_machine(ray))
        pending = {remote.remote(task, _absolute(work)): work for work in works}
        while pending:
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            work = pending.pop(ready)
            tally = _result(ray, ready)
            note(len(work.entries), tally)
            yield work, tally


def _count_anew(task: ChunkSettings, work: Chunk) -> Tally:
    # Opening the models costs a few seconds, a chunk takes minutes: no worker needs to keep state for that.
    return count_chunk(task, work, open_labellers(task, work.subjects))


def _absolute(work: Chunk) -> Chunk:
    """With paths that hold in whatever folder a worker runs."""
    entries = [
        replace(entry, image=entry.image.absolute(), annotation=entry.annotation.absolute()) for entry in work.entries
    ]
    return Chunk(entries, [replace(subject, path=subject.path.absolute()) for subject in work.subjects])


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    # Read by the processes that ray.init starts; without it they report their use to Ray's makers.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise DependencyError("Ray is not installed", "pip install 'pspnet-convert[cluster]'") from error
    _check_address(address)
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ClusterError(
            f"--ray {address}: cannot be reached: {reason}", "Is it the address of a cluster?"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Ray itself tries for minutes, and then ends the process."""
    if address in ("local", "auto"):
        return
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_TIMEOUT).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ClusterError(
            f"--ray {address}: cannot be reached: {error}", "Give HOST:PORT of its head, or auto or local."
        ) from error


def _smallest_machine(ray: Any) -> float:
    """How many CPUs one chunk gets: all of a machine, since the models spread over its cores by themselves."""
    counts = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    usable = [count for count in counts if count]
    if not usable:
        raise ClusterError("no machine of the cluster has a CPU to work with", "Wait until one has joined.")
    return float(min(usable))


def _result(ray: Any, reference: Any) -> Tally:
    try:
        tally: Tally = ray.get(reference)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", error)
        if isinstance(cause, ConvertError):
            raise cause from error
        reason = f"{type(cause).__name__}: {str(cause).strip()}".splitlines()[0]
        raise ClusterError(f"a chunk failed on the cluster: {reason}", _ADVICE) from error
    return tally
