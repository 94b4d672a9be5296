"""Get a checkpoint from its sources: tried in order, resumed if broken off, renamed only if its digest is right.

A resume sends no ETag. The usual way is to keep the server's validator next to the partial file and to send it back
as `If-Range`. Here the card names one exact file, so its digest is the validator. Bytes on the disk are kept whatever
source they came from (an earlier run, another mirror). If the whole file is then wrong, and was pieced together from
several answers, the source gets one clean try from zero. So a file that changes on its server between two tries costs
one more download and never passes, and no second file must be kept in step with the first. If the card is not pinned
yet (card.py), the first digits of the digest do the same, and the size comes from the server.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pspnet_convert.cards.card import CheckpointFile, ModelCard
from pspnet_convert.commands.download.http_source import download
from pspnet_convert.commands.download.partial_file import PartialFile, SourceError, fill
from pspnet_convert.commands.download.retry import PATIENCE, Patience
from pspnet_convert.errors import ConvertError, DigestError, DownloadError
from pspnet_convert.files import sha256_of, writing
from pspnet_convert.progress import Progress

_ADVICE = "Give another source with --source (a URL, a folder or a file), or the file itself with --checkpoint."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """The file in its place. `source` is the source as given, without secrets; None if none was needed."""

    path: Path
    sha256: str
    size: int
    source: str | None
    already_there: bool


def sources_of(card: ModelCard, extra: Sequence[str] = ()) -> list[str]:
    """The user's sources (`extra`), then the card's; a bare name in the card is a file in the card's folder."""
    of_card = [source if "://" in source else str(card.folder / source) for source in card.checkpoint.sources]
    return list(dict.fromkeys([*extra, *of_card]))


def fetch(
    file: CheckpointFile,
    target: Path,
    sources: Sequence[str],
    progress: Progress,
    *,
    anew: bool = False,
    allow_http_redirect: bool = False,
    patience: Patience = PATIENCE,
) -> Fetched:
    """Get `file` to `target` from the first of `sources` that has it. The caller must have locked the workspace.

    A source is an http(s) or file URL, a folder that holds the file, or the file's path; an http(s) URL that
    ends in `/` is a folder. If the right file is at `target`, no source is asked, unless `anew` is set. A redirect
    from https to plain http is followed only with `allow_http_redirect`. A broken download is kept in
    `<target>.part` for the next run.

    Raises DigestError if no source gave the file and one gave another file instead, DownloadError if none gave
    anything, WorkspaceError if the disk refuses.
    """
    part_path = target.with_name(target.name + ".part")
    digest = None if anew else _digest_there(file, target)
    if digest is not None:
        with writing(part_path):
            part_path.unlink(missing_ok=True)
        return Fetched(target, digest, target.stat().st_size, None, already_there=True)
    failures: list[tuple[str, SourceError]] = []
    with PartialFile(part_path, file, progress) as part:
        if part.is_right():
            part.move_to(target)
            return Fetched(target, part.sha256, part.size, None, already_there=True)
        for source in sources:
            try:
                _fetch_from(source, part, progress, patience, allow_http_redirect)
            except SourceError as error:
                failures.append((without_secrets(source), error))
                progress.note(f"{without_secrets(source)}: {error}", "retry")
            else:
                part.move_to(target)
                return Fetched(target, part.sha256, part.size, without_secrets(source), already_there=False)
    raise _all_failed(file, failures)


def without_secrets(source: str) -> str:
    """The source as it may be shown: a URL without user, password and query, which may hold secrets."""
    if "://" not in source:
        return source
    # The second form is a password with a slash in it, which makes the URL invalid and no less secret.
    source = re.sub(r"(?<=://)(?:[^/?#]*|[^/?#:\[]*:(?!\d+/).*)@", "", source, flags=re.DOTALL)
    return re.sub(r"[?#].*", "?...", source, flags=re.DOTALL)


def _digest_there(file: CheckpointFile, target: Path) -> str | None:
    """The SHA-256 of `target` if it is the right file, else None. (The card's SHA-384 would add nothing.)"""
    with writing(target):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not target.exists():
            return None
        size = target.stat().st_size
    if size == (file.size or size) and file.accepts(digest := sha256_of(target)):
        return digest
    log.warning("%s is not the card's file; downloading it again", target)
    return None


def _all_failed(file: CheckpointFile, failures: list[tuple[str, SourceError]]) -> ConvertError:
    reasons = "; ".join(f"{source}: {error}" for source, error in failures)
    kind = DigestError if any(error.wrong for _, error in failures) else DownloadError
    return kind(f"{file.name}: no source gave the file: {reasons or 'there is none'}", _ADVICE)


def _fetch_from(
    source: str, part: PartialFile, progress: Progress, patience: Patience, allow_http_redirect: bool
) -> None:
    """Fill `part` with the right bytes, or raise SourceError."""

    def note(text: str) -> None:
        progress.note(f"{without_secrets(source)}: {text}", "retry")

    for is_last in (False, True):
        if re.match(r"https?://", source, re.IGNORECASE):
            url = source + part.wanted.name if source.endswith("/") else source
            download(url, part, note, patience, allow_http_redirect)
        else:
            _copy(source, part)
        difference = part.difference()
        if difference is None:
            return
        is_mixed = part.pieces > 1
        part.restart()
        if is_last or not is_mixed:
            raise SourceError(difference, wrong=True)
        note("the resumed file is wrong; starting over")


def _local_path(source: str, name: str) -> Path:
    path = Path(source)
    if "://" in source:
        parts = urlsplit(source)
        if parts.scheme.lower() != "file":
            raise SourceError("is no http, https or file URL")
        if parts.netloc not in ("", "localhost"):
            raise SourceError("is a file URL of another machine")
        path = Path(url2pathname(parts.path))
    return path / name if path.is_dir() else path


def _size_of(path: Path) -> int:
    """The file's size in bytes; SourceError if it is not a regular file."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise SourceError("is no file")
    return found.st_size


def _copy(source: str, part: PartialFile) -> None:
    """Fill `part` from a path or file URL."""
    try:
        path = _local_path(source, part.wanted.name)
        # The size before opening: opening a pipe would wait for its writer.
        part.expect(_size_of(path))
        with path.open("rb") as file:
            file.seek(part.size)
            fill(part, file.read)
    except OSError as error:
        raise SourceError(error.strerror or "cannot be read") from error
    except ValueError as error:
        raise SourceError("is no valid path") from error
