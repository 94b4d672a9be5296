"""The stage download: the card's checkpoint in the workspace.

How a file is fetched and checked is fetch.py's business.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from pspnet_convert.download.fetch import fetch, sources_of
from pspnet_convert.job import Job, Outcome, tell
from pspnet_convert.manifest import StageRecord


def download(job: Job, sources: Sequence[str], *, allow_http_redirect: bool = False) -> Outcome:
    """Fetch the card's checkpoint into the workspace, from the first of `sources` or the card's that gives it."""
    wanted = job.card.checkpoint
    target = job.workspace.checkpoint(wanted.name)
    started = time.monotonic()
    try:
        fetched = fetch(
            wanted,
            target,
            sources_of(job.card, sources),
            job.progress,
            anew=job.force,
            allow_http_redirect=allow_http_redirect,
        )
    finally:
        job.progress.done()
    job.digests.learn(target, fetched.sha256)
    job.pin(fetched.sha256, fetched.size)
    before = job.manifest.stage("download")
    # What the file is follows from the card; where it came from is told, not compared.
    work = StageRecord({"card": {"sha256": fetched.sha256, "size": fetched.size}}, {}, {})
    if fetched.already_there and before is not None and before.same_work(work):
        return tell(Outcome("download", before, skipped=True))
    record = job.finish(work, started, [target], {"source": _without_folders(fetched.source)})
    job.write("download", record)
    return tell(Outcome("download", record, skipped=fetched.already_there))


def _without_folders(source: str | None) -> str | None:
    """A source as the manifest has it: a URL as it is, of a place on this machine the name alone."""
    if source is None or source.startswith(("http://", "https://")):
        return source
    return Path(source).name
