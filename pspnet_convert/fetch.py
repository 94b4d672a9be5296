"""Sources -> a file whose digest is right: tried in order, resumed where broken off, renamed only when whole.

Which file and digests is the card's business; that no other process fetches it too is the workspace's.

Why a resume sends no ETag: the usual way is to keep the server's validator beside the partial file and to
send it back as `If-Range`. Here the card names one exact file, so its digest is the validator. Bytes on the
disk are kept whatever source they came from (an earlier run, another mirror); if the whole is wrong, and it
was pieced together from several answers, the source gets one clean try from zero. So a file that changes on
its server between two tries costs one more download and never passes, and there is no second file to keep in
step with the first. Of a card that is not pinned yet (card.py) the beginning of the digest serves as well, and the
size is what the server says.
"""

from __future__ import annotations

import email.utils
import errno
import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from http.client import responses
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

from pspnet_convert.card import CheckpointFile, ModelCard
from pspnet_convert.errors import ConvertError, DigestError, DownloadError
from pspnet_convert.progress import Progress
from pspnet_convert.workspace import flush_folder, sha256_of, writing

if TYPE_CHECKING:
    import requests
    import tenacity

_CHUNK = 128 * 1024
_MAX_REDIRECTS = 10
_SLOWEST = 1024  # bytes a second; less is a server that drips to keep the read timeout quiet
_GAIN = 1 << 20  # bytes that earn a flaky source a fresh set of attempts
_LARGEST = 4 << 30  # bytes of a file whose size the card does not say; the largest published has not half a GiB
_ADVICE = "Give another place with --source (a URL, a folder or a file), or the file itself with --checkpoint."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long a source is borne with: attempts in a row that bring nothing new, and seconds."""

    attempts: int = 4
    connect_s: float = 10
    read_s: float = 30
    first_wait_s: float = 1
    longest_wait_s: float = 30


PATIENCE = Patience()


@dataclass(frozen=True)
class Fetched:
    """The file in place. `source` is as it was given, less secrets; None if no source had to be asked."""

    path: Path
    sha256: str
    size: int
    source: Optional[str]
    already_there: bool


def sources_of(card: ModelCard, extra: Sequence[str] = ()) -> list[str]:
    """The user's own sources first, then the card's; a bare name in the card is a file beside it."""
    own = [source if "://" in source else str(card.folder / source) for source in card.checkpoint.sources]
    return list(dict.fromkeys([*extra, *own]))


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
    """Get `file` to `target` from the first of `sources` that gives it; the caller locks the workspace.

    A source is an http(s) or file URL, a folder that holds the file, or the file's path; an http(s) URL that
    ends in `/` is a folder. Where the right file is there none is asked, unless it is to come `anew`. A redirect
    from https to plain http is followed only with `allow_http_redirect`. What a broken download leaves is kept in
    `<target>.part` for the next run.

    Raises DigestError if none gave the file and one gave something else in its place, DownloadError if none
    gave anything, WorkspaceError if the disk refuses.
    """
    part_path = target.with_name(target.name + ".part")
    digest = None if anew else _digest_there(file, target)
    if digest is not None:
        with writing(part_path):
            part_path.unlink(missing_ok=True)
        return Fetched(target, digest, target.stat().st_size, None, already_there=True)
    failures: list[tuple[str, _SourceError]] = []
    with _Part(part_path, file, progress) as part:
        if part.is_right():
            part.move_to(target)
            return Fetched(target, part.sha256, part.size, None, already_there=True)
        for source in sources:
            try:
                _fetch_from(source, part, progress, patience, allow_http_redirect)
            except _SourceError as error:
                failures.append((without_secrets(source), error))
                progress.note(f"{without_secrets(source)}: {error}", "retry")
            else:
                part.move_to(target)
                return Fetched(target, part.sha256, part.size, without_secrets(source), already_there=False)
    raise _all_failed(file, failures)


def without_secrets(source: str) -> str:
    """The source as it may be shown: a URL without user, password and query, where tokens are kept."""
    if "://" not in source:
        return source
    # The second form is a password with a slash in it, which makes the URL invalid and no less secret.
    source = re.sub(r"(?<=://)(?:[^/?#]*|[^/?#:\[]*:(?!\d+/).*)@", "", source, flags=re.DOTALL)
    return re.sub(r"[?#].*", "?...", source, flags=re.DOTALL)


class _SourceError(Exception):
    """A source did not give the file; `wrong`: it gave something else in its place."""

    def __init__(self, reason: str, wrong: bool = False) -> None:
        super().__init__(reason)
        self.wrong = wrong


class _TryAgain(_SourceError):
    """A fault that may pass. `wait_s`: what the server asked for."""

    def __init__(self, reason: str, wait_s: Optional[float] = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Part:
    """The bytes had so far: a file beside the target, and the running digests of what is in it."""

    def __init__(self, path: Path, wanted: CheckpointFile, progress: Progress) -> None:
        self._path = path
        self.wanted = wanted
        self.total = wanted.size
        self._progress = progress
        self.furthest = 0
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a full disk must speak up at the write, not when the file is closed.
            self._file = path.open("a+b", buffering=0)
            self._clear()
            self._take_up()
        progress.start(self.total, wanted.name, self.size)

    def _clear(self) -> None:
        self.size = 0
        self.pieces = 0
        self._digests = {"sha256": hashlib.sha256()}
        if self.wanted.sha384:
            self._digests["sha384"] = hashlib.sha384()

    def _take_up(self) -> None:
        """Count in what an earlier run left, unless it cannot be the file."""
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            self._count(chunk)
            if self.size > self._limit:
                break
        self.pieces = 1 if self.size else 0
        if self.size >= self._limit and not self.is_right():
            self._file.truncate(0)
            self._clear()

    def _count(self, chunk: bytes) -> None:
        for digest in self._digests.values():
            digest.update(chunk)
        self.size += len(chunk)

    @property
    def _limit(self) -> int:
        return _LARGEST if self.wanted.size is None else self.wanted.size

    @property
    def sha256(self) -> str:
        return self._digests["sha256"].hexdigest()

    @property
    def missing(self) -> int:
        """Bytes that may still come: as many as there are to come, where that is known."""
        return (self._limit if self.total is None else self.total) - self.size

    def expect(self, served: Optional[int]) -> None:
        """Take the size that a source tells of the whole file, None for none; _SourceError if it cannot be the file."""
        if self.wanted.size is not None:
            if served not in (None, self.wanted.size):
                raise _SourceError(f"serves {served} bytes instead of {self.wanted.size}", wrong=True)
            return
        if served is not None and served > _LARGEST:
            raise _SourceError(f"serves {served} bytes, more than any checkpoint has", wrong=True)
        self.total = served
        if served is not None and served < self.size:
            self.restart()
        self._progress.start(served, self.wanted.name, self.size)

    def append(self, chunk: bytes) -> None:
        with writing(self._path):
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]
        self._count(chunk)
        self.furthest = max(self.furthest, self.size)
        self._progress.advance(len(chunk))

    def restart(self) -> None:
        with writing(self._path):
            self._file.truncate(0)
        self._clear()
        self._progress.start(self.total, self.wanted.name, 0)

    def is_right(self) -> bool:
        return self.wanted.size in (None, self.size) and self.difference() is None

    def difference(self) -> Optional[str]:
        """The first digest that is not the card's, in words."""
        if not self.size:
            return "serves nothing"
        for name, wanted in (("sha256", self.wanted.digest), ("sha384", self.wanted.sha384)):
            if wanted and not (found := self._digests[name].hexdigest()).startswith(wanted):
                return f"serves other bytes ({name} {found[:12]}... instead of {wanted[:12]}...)"
        return None

    def move_to(self, target: Path) -> None:
        with writing(target):
            os.fsync(self._file.fileno())
            # Windows renames no open file.
            self._file.close()
            self._path.replace(target)
            flush_folder(target.parent)

    def __enter__(self) -> _Part:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Keep bytes that a later run can go on from, and nothing else."""
        self._progress.done()
        self._file.close()
        if not self.size:
            with writing(self._path):
                self._path.unlink(missing_ok=True)


def _digest_there(file: CheckpointFile, target: Path) -> Optional[str]:
    """The SHA-256 of `target` if it is the file; the card's other digest adds nothing to that."""
    with writing(target):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not target.exists():
            return None
        size = target.stat().st_size
    if size == (file.size or size) and file.accepts(digest := sha256_of(target)):
        return digest
    log.warning("%s is not the file that the card names; it is fetched anew", target)
    return None


def _all_failed(file: CheckpointFile, failures: list[tuple[str, _SourceError]]) -> ConvertError:
    reasons = "; ".join(f"{source}: {error}" for source, error in failures)
    kind = DigestError if any(error.wrong for _, error in failures) else DownloadError
    return kind(f"{file.name}: no source gave the file: {reasons or 'there is none'}", _ADVICE)


def _fetch_from(source: str, part: _Part, progress: Progress, patience: Patience, allow_http_redirect: bool) -> None:
    """Fill `part` with the right bytes, or raise _SourceError."""

    def note(text: str) -> None:
        progress.note(f"{without_secrets(source)}: {text}", "retry")

    for is_last in (False, True):
        if re.match(r"https?://", source, re.IGNORECASE):
            url = source + part.wanted.name if source.endswith("/") else source
            _download(url, part, note, patience, allow_http_redirect)
        else:
            _copy(source, part)
        difference = part.difference()
        if difference is None:
            return
        is_mixed = part.pieces > 1
        part.restart()
        if is_last or not is_mixed:
            raise _SourceError(difference, wrong=True)
        note("the resumed file is wrong; starting over")


def _fill(part: _Part, read: Callable[[int], bytes]) -> None:
    """Read until `part` has the file's size: of an endless body not a byte more is taken."""
    part.pieces += 1
    while part.missing and (chunk := read(min(_CHUNK, part.missing))):
        part.append(chunk)
    if part.missing and part.total is not None:
        raise _TryAgain(f"ended after {part.size} of {part.total} bytes")
    if not part.missing and part.total is None:
        raise _SourceError(f"serves {part.size} bytes and more, more than any checkpoint has", wrong=True)


# Local sources


def _local_path(source: str, name: str) -> Path:
    path = Path(source)
    if "://" in source:
        parts = urlsplit(source)
        if parts.scheme.lower() != "file":
            raise _SourceError("is no http, https or file URL")
        if parts.netloc not in ("", "localhost"):
            raise _SourceError("is a file URL of another machine")
        path = Path(url2pathname(parts.path))
    return path / name if path.is_dir() else path


def _size_of(path: Path) -> int:
    """In bytes; _SourceError for what is no file."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise _SourceError("is no file")
    return found.st_size


def _copy(source: str, part: _Part) -> None:
    """Fill `part` from a path or file URL."""
    try:
        path = _local_path(source, part.wanted.name)
        # By name, before it is opened: to open a pipe would wait for its writer.
        part.expect(_size_of(path))
        with path.open("rb") as file:
            file.seek(part.size)
            _fill(part, file.read)
    except OSError as error:
        raise _SourceError(error.strerror or "cannot be read") from error
    except ValueError as error:
        raise _SourceError("is no valid path") from error


# HTTP


def _download(
    url: str, part: _Part, note: Callable[[str], None], patience: Patience, allow_http_redirect: bool
) -> None:
    """Fill `part` from `url`; a source that breaks off but brings new bytes each time is asked on and on."""
    # Imported late: neither is needed for `--help`, nor where the file is there already.
    import requests
    import tenacity

    def say(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None and state.next_action is not None
        note(f"{state.outcome.exception()}; trying again in {state.next_action.sleep:.0f} s")

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_TryAgain),
        stop=tenacity.stop_after_attempt(patience.attempts),
        wait=_waits(patience),
        before_sleep=say,
        reraise=True,
    )
    with requests.Session() as session:
        # Compressed on the way, the bytes could be neither counted nor resumed.
        session.headers.update({"Accept-Encoding": "identity", "User-Agent": "pspnet-convert"})
        session.max_redirects = _MAX_REDIRECTS
        session.hooks["response"] = [partial(_check_redirect, allow_http_redirect)]
        while True:
            before = part.furthest
            try:
                return retrying(_try_once, session, url, part, patience)
            except _TryAgain:
                if part.furthest - before < _GAIN:
                    raise


def _waits(patience: Patience) -> Callable[[tenacity.RetryCallState], float]:
    import tenacity

    backoff = tenacity.wait_exponential(patience.first_wait_s) + tenacity.wait_random(0, patience.first_wait_s)

    def seconds(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait_s if isinstance(error, _TryAgain) else None
        return min(backoff(state) if asked is None else asked, patience.longest_wait_s)

    return seconds


def _try_once(session: requests.Session, url: str, part: _Part, patience: Patience) -> None:
    with _network_faults(part, patience):
        response = _ask(session, url, part.size, patience)
        if part.size and response.status_code in (206, 416) and _offset(response) != part.size:
            response.close()
            response = _ask(session, url, 0, patience)
        with response:
            _check_status(response)
            _check_body(response, part)
            # Only now: an error page is no reason to throw away good bytes.
            if _offset(response) != part.size:
                part.restart()
            _fill(part, _paced(response.raw, patience))


@contextmanager
def _network_faults(part: _Part, patience: Patience) -> Iterator[None]:
    """Turn what requests and (in a body) urllib3 raise into reasons, none of which holds the URL."""
    import requests
    import urllib3

    try:
        yield
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        connecting = isinstance(error, requests.ConnectTimeout)
        seconds = patience.connect_s if connecting else patience.read_s
        raise _TryAgain(f"{'no connection' if connecting else 'no data'} within {seconds:g} s") from error
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise _SourceError("its certificate is not trusted") from error
        raise _TryAgain("the encrypted connection failed") from error
    except (requests.ConnectionError, urllib3.exceptions.ProtocolError) as error:
        of = "" if part.total is None else f" of {part.total}"
        where = f" after {part.size}{of} bytes" if part.size else ""
        raise _TryAgain(f"{_root_cause(error)}{where}") from error
    except requests.TooManyRedirects as error:
        raise _SourceError(f"more than {_MAX_REDIRECTS} redirects") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _SourceError(f"cannot be asked ({type(error).__name__})") from error


def _root_cause(error: BaseException) -> str:
    """The operating system's words, from under the wrappings of urllib3 and requests."""
    link: Optional[BaseException] = error
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        link = link.__cause__ or link.__context__
    return "the connection broke off"


def _ask(session: requests.Session, url: str, offset: int, patience: Patience) -> requests.Response:
    """The answer to a GET from `offset` on, its body not yet read."""
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    return session.get(url, headers=headers, stream=True, timeout=(patience.connect_s, patience.read_s))


def _check_redirect(allow_http: bool, response: requests.Response, **_: Any) -> None:
    """A hook: raise where a redirect leads off the web or out of encryption; requests does the following."""
    if not response.is_redirect:
        return
    # Closed, since requests would read the body of a redirect to its end, if it has one.
    response.close()
    try:
        old, new = urlsplit(response.url), urlsplit(urljoin(response.url, response.headers["Location"]))
    except ValueError as error:
        raise _SourceError("redirects to no valid URL") from error
    if new.scheme not in ("http", "https"):
        raise _SourceError("redirects away from http")
    if old.scheme == "https" and new.scheme == "http" and not allow_http:
        raise _SourceError("redirects from https to unencrypted http, which needs --allow-http-redirect")


def _content_range(response: requests.Response) -> tuple[Optional[int], Optional[int]]:
    """Offset and size of the whole, in bytes, as far as the answer tells."""
    found = re.match(r"bytes (?:(\d{1,18})-\d+|\*)/(\d{1,18}|\*)$", response.headers.get("Content-Range", ""))
    if not found:
        return None, None
    offset, size = found.groups()
    return int(offset) if offset else None, int(size) if size != "*" else None


def _offset(response: requests.Response) -> Optional[int]:
    """Where in the file the answer's body begins; None if that cannot be told."""
    return _content_range(response)[0] if response.status_code == 206 else 0


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status >= 500 or status in (408, 429):
        raise _TryAgain(_status_in_words(status), _retry_after(response.headers.get("Retry-After", "")))
    if status not in (200, 206):
        raise _SourceError(_status_in_words(status))


def _check_body(response: requests.Response, part: _Part) -> None:
    """Raise if the body that is about to come cannot be the file, or the rest of it."""
    headers = response.headers
    coding = headers.get("Content-Encoding", "").lower()
    if re.search(r"gzip|compress|deflate|br|zstd", coding):
        raise _SourceError("sends it compressed, though asked not to")
    served = _served_size(response)
    if served != (part.wanted.size or 0) and headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _SourceError("serves an HTML page instead of the file", wrong=True)
    part.expect(served)
    if _offset(response) not in (0, part.size):
        raise _SourceError("serves another part of the file than it was asked for")


def _served_size(response: requests.Response) -> Optional[int]:
    """Of the whole file in bytes, where the answer tells it."""
    if response.status_code == 206:
        return _content_range(response)[1]
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"\d{1,18}", length) else None


def _status_in_words(status: int) -> str:
    # Not the server's own phrase, which may say anything.
    return f"HTTP {status} {responses.get(status, '')}".rstrip()


def _retry_after(value: str) -> Optional[float]:
    """Seconds from now, from either form of the header; None if it says nothing usable."""
    try:
        if re.fullmatch(r"\d{1,9}", value):
            return float(value)
        moment = email.utils.parsedate_to_datetime(value)
        return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError):
        return None


def _paced(raw: Any, patience: Patience) -> Callable[[int], bytes]:
    """A reader of the body that raises _TryAgain where for `read_s` it came slower than _SLOWEST."""
    # From a drip read() would never come back: it waits for all it was asked for. urllib3 1 has no read1.
    read = getattr(raw, "read1", raw.read)
    since, received = time.monotonic(), 0

    def read_some(size: int) -> bytes:
        nonlocal since, received
        chunk: bytes = read(size, decode_content=False) or b""
        received += len(chunk)
        elapsed = time.monotonic() - since
        if elapsed > patience.read_s:
            if received < elapsed * _SLOWEST:
                raise _TryAgain(f"sends fewer than {_SLOWEST} bytes a second")
            since, received = time.monotonic(), 0
        return chunk

    return read_some
