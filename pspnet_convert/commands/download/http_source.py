"""A file by HTTP into a part file: asked again, resumed where broken off, and not taken in by what servers say.

Which sources there are, and whether what came is the file, is fetch.py's business.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.client import responses
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from pspnet_convert.commands.download.partial_file import PartialFile, SourceError, TryAgain, fill

if TYPE_CHECKING:
    import requests
    import tenacity

_MAX_REDIRECTS = 10
_SLOWEST = 1024  # bytes a second; less is a server that drips to keep the read timeout quiet
_GAIN = 1 << 20  # bytes that earn a flaky source a fresh set of attempts


@dataclass(frozen=True)
class Patience:
    """How long a source is borne with: attempts in a row that bring nothing new, and seconds."""

    attempts: int = 4
    connect_s: float = 10
    read_s: float = 30
    first_wait_s: float = 1
    longest_wait_s: float = 30


PATIENCE = Patience()


def download(
    url: str, part: PartialFile, note: Callable[[str], None], patience: Patience, allow_http_redirect: bool
) -> None:
    """Fill `part` from `url`; a source that breaks off but brings new bytes each time is asked on and on."""
    # Imported late: neither is needed for `--help`, nor where the file is there already.
    import requests
    import tenacity

    def say(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None and state.next_action is not None
        note(f"{state.outcome.exception()}; trying again in {state.next_action.sleep:.0f} s")

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TryAgain),
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
            except TryAgain:
                if part.furthest - before < _GAIN:
                    raise


def _waits(patience: Patience) -> Callable[[tenacity.RetryCallState], float]:
    import tenacity

    backoff = tenacity.wait_exponential(patience.first_wait_s) + tenacity.wait_random(0, patience.first_wait_s)

    def seconds(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait_s if isinstance(error, TryAgain) else None
        return min(backoff(state) if asked is None else asked, patience.longest_wait_s)

    return seconds


def _try_once(session: requests.Session, url: str, part: PartialFile, patience: Patience) -> None:
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
            fill(part, _paced(response.raw, patience))


@contextmanager
def _network_faults(part: PartialFile, patience: Patience) -> Iterator[None]:
    """Turn what requests and (in a body) urllib3 raise into reasons, none of which holds the URL."""
    import requests
    import urllib3

    try:
        yield
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        connecting = isinstance(error, requests.ConnectTimeout)
        seconds = patience.connect_s if connecting else patience.read_s
        raise TryAgain(f"{'no connection' if connecting else 'no data'} within {seconds:g} s") from error
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise SourceError("its certificate is not trusted") from error
        raise TryAgain("the encrypted connection failed") from error
    except (requests.ConnectionError, urllib3.exceptions.ProtocolError) as error:
        of = "" if part.total is None else f" of {part.total}"
        where = f" after {part.size}{of} bytes" if part.size else ""
        raise TryAgain(f"{_root_cause(error)}{where}") from error
    except requests.TooManyRedirects as error:
        raise SourceError(f"more than {_MAX_REDIRECTS} redirects") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise SourceError(f"cannot be asked ({type(error).__name__})") from error


def _root_cause(error: BaseException) -> str:
    """The operating system's words, from under the wrappings of urllib3 and requests."""
    link: BaseException | None = error
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
        raise SourceError("redirects to no valid URL") from error
    if new.scheme not in ("http", "https"):
        raise SourceError("redirects away from http")
    if old.scheme == "https" and new.scheme == "http" and not allow_http:
        raise SourceError("redirects from https to unencrypted http, which needs --allow-http-redirect")


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Offset and size of the whole, in bytes, as far as the answer tells."""
    found = re.match(r"bytes (?:(\d{1,18})-\d+|\*)/(\d{1,18}|\*)$", response.headers.get("Content-Range", ""))
    if not found:
        return None, None
    offset, size = found.groups()
    return int(offset) if offset else None, int(size) if size != "*" else None


def _offset(response: requests.Response) -> int | None:
    """Where in the file the answer's body begins; None if that cannot be told."""
    return _content_range(response)[0] if response.status_code == 206 else 0


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status >= 500 or status in (408, 429):
        raise TryAgain(_status_in_words(status), _retry_after(response.headers.get("Retry-After", "")))
    if status not in (200, 206):
        raise SourceError(_status_in_words(status))


def _check_body(response: requests.Response, part: PartialFile) -> None:
    """Raise if the body that is about to come cannot be the file, or the rest of it."""
    headers = response.headers
    coding = headers.get("Content-Encoding", "").lower()
    if re.search(r"gzip|compress|deflate|br|zstd", coding):
        raise SourceError("sends it compressed, though asked not to")
    served = _served_size(response)
    if served != (part.wanted.size or 0) and headers.get("Content-Type", "").lower().startswith("text/html"):
        raise SourceError("serves an HTML page instead of the file", wrong=True)
    part.expect(served)
    if _offset(response) not in (0, part.size):
        raise SourceError("serves another part of the file than it was asked for")


def _served_size(response: requests.Response) -> int | None:
    """Of the whole file in bytes, where the answer tells it."""
    if response.status_code == 206:
        return _content_range(response)[1]
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"\d{1,18}", length) else None


def _status_in_words(status: int) -> str:
    # Not the server's own phrase, which may say anything.
    return f"HTTP {status} {responses.get(status, '')}".rstrip()


def _retry_after(value: str) -> float | None:
    """Seconds from now, from either form of the header; None if it says nothing usable."""
    try:
        if re.fullmatch(r"\d{1,9}", value):
            return float(value)
        moment = email.utils.parsedate_to_datetime(value)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _paced(raw: Any, patience: Patience) -> Callable[[int], bytes]:
    """A reader of the body that raises TryAgain where for `read_s` it came slower than _SLOWEST."""
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
                raise TryAgain(f"sends fewer than {_SLOWEST} bytes a second")
            since, received = time.monotonic(), 0
        return chunk

    return read_some
