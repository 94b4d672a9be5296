"""Count an evaluation's chunks on a Ray cluster, which repeats a lost machine's chunks on another.

Every machine needs this tool, and the models and the data set at the same paths.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
    open_all,
)
from pspnet_convert.errors import ClusterError, ConvertError, DependencyError

_ADVICE = "Every machine needs pspnet-convert and the same paths. --resume continues after the chunks that are done."
_TIMEOUT = 10  # seconds


def run_on_ray(address: str) -> Mapper:
    """A Mapper on the Ray cluster at `address`; `local` starts a cluster on this machine and stops it at the end.

    Raises DependencyError without Ray, ClusterError if the cluster cannot be reached or a chunk fails on it.
    """
    return partial(_on_cluster, address)


def _on_cluster(
    address: str, settings: ChunkSettings, chunks: Sequence[Chunk], note: Note
) -> Iterator[tuple[Chunk, Tally]]:
    with _connected(address) as ray:
        remote = ray.remote(_open_and_count).options(num_cpus=_smallest_machine(ray))
        pending = {remote.remote(settings, _absolute(chunk)): chunk for chunk in chunks}
        while pending:
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            chunk = pending.pop(ready)
            tally = _result(ray, ready)
            note(len(chunk.entries), tally)
            yield chunk, tally


def _open_and_count(settings: ChunkSettings, chunk: Chunk) -> Tally:
    # Opening the models takes seconds, a chunk takes minutes: workers need not keep models open.
    with ExitStack() as stack:
        return count_chunk(settings, chunk, open_all(settings, chunk.subjects, stack))


def _absolute(chunk: Chunk) -> Chunk:
    """The chunk with absolute paths: a worker may run in another folder."""
    entries = [
        replace(entry, image=entry.image.absolute(), annotation=entry.annotation.absolute()) for entry in chunk.entries
    ]
    return Chunk(entries, [replace(subject, path=subject.path.absolute()) for subject in chunk.subjects])


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    # Read by the processes that ray.init starts: without it they send usage statistics to Ray's makers.
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
            f"--ray {address}: cannot be reached: {reason}", "Check that it is the address of a cluster."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise ClusterError if nothing answers at `address`. (Ray would try for minutes, then end the process.)"""
    if address in ("local", "auto"):
        return
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_TIMEOUT).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ClusterError(
            f"--ray {address}: cannot be reached: {error}", "Give HOST:PORT of its head node, or auto, or local."
        ) from error


def _smallest_machine(ray: Any) -> float:
    """The number of CPUs for one chunk: all of the smallest machine, because a model uses all cores by itself."""
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
