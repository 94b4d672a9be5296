"""The stage download: the card's checkpoint in the workspace."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pspnet_convert.commands.download.fetch import fetch, sources_of
from pspnet_convert.commands.download.options import SOURCE_VARIABLE, DownloadOptions
from pspnet_convert.job import Job, log_outcome
from pspnet_convert.stage import Outcome, Stage


def fetch_checkpoint(job: Job, options: DownloadOptions) -> Outcome:
    """Fetch the card's checkpoint into the workspace, from the first source that has it.

    The file is its own memory: a part of it is resumed, and a whole one is known by its digest. So this stage does not
    go through Job.run.
    """
    target = job.workspace.checkpoint(job.card.checkpoint.name)
    started = time.monotonic()
    sources = options.source or os.environ.get(SOURCE_VARIABLE, "").split()
    try:
        fetched = fetch(
            job.card.checkpoint,
            target,
            sources_of(job.card, sources),
            job.progress,
            anew=job.force,
            allow_http_redirect=options.allow_http_redirect,
        )
    finally:
        job.progress.done()
    job.digests.learn(target, fetched.sha256)
    job.pin(fetched.sha256, fetched.size)
    # The card says which file it is. Where it came from is recorded, but does not make it other work.
    inputs = {"card": {"sha256": fetched.sha256, "size": fetched.size}}
    stage = Stage("download", lambda made: {"source": _without_folders(fetched.source)}, inputs)
    before = job.find_reusable(stage) if fetched.already_there else None
    if before is not None:
        return log_outcome(Outcome("download", before, skipped=True))
    return job.finish(stage, [target], stage.make(job.workspace), started, skipped=fetched.already_there)


def _without_folders(source: str | None) -> str | None:
    """A source as the manifest has it: a URL as it is; of a place on this machine the name alone."""
    if source is None or source.startswith(("http://", "https://")):
        return source
    return Path(source).name
