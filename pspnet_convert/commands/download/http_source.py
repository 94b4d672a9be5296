"""Download a file by HTTP into a partial file: retried, resumed if broken off, and checked against false answers."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.client import responses
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from pspnet_convert.commands.download.partial_file import PartialFile, SourceError, TryAgain, fill
from pspnet_convert.commands.download.retry import Patience, retrying

if TYPE_CHECKING:
    import requests

_MAX_REDIRECTS = 10
_SLOWEST = 1024  # bytes a second; a slower server trickles bytes to avoid the read timeout
_GAIN = 1 << 20  # new bytes that earn an unreliable source a new set of attempts


def download(
    url: str, part: PartialFile, note: Callable[[str], None], patience: Patience, allow_http_redirect: bool
) -> None:
    """Fill `part` from `url`. A source that breaks off is tried again for as long as it brings enough new bytes."""
    # Imported late: not needed for `--help`, nor if the file is there already.
    import requests

    attempts = retrying(patience, note)
    with requests.Session() as session:
        # identity: compressed bytes could be neither counted nor resumed.
        session.headers.update({"Accept-Encoding": "identity", "User-Agent": "pspnet-convert"})
        session.max_redirects = _MAX_REDIRECTS
        session.hooks["response"] = [partial(_check_redirect, allow_http_redirect)]
        while True:
            before = part.furthest
            try:
                return attempts(_try_once, session, url, part, patience)
            except TryAgain:
                if part.furthest - before < _GAIN:
                    raise


def _try_once(session: requests.Session, url: str, part: PartialFile, patience: Patience) -> None:
    with _network_faults(part, patience):
        response = _get(session, url, part.size, patience)
        if part.size and response.status_code in (206, 416) and _offset(response) != part.size:
            response.close()
            response = _get(session, url, 0, patience)
        with response:
            _check_status(response)
            _check_body(response, part)
            # Only now: an error page must not discard good bytes.
            if _offset(response) != part.size:
                part.restart()
            fill(part, _paced(response.raw, patience))


@contextmanager
def _network_faults(part: PartialFile, patience: Patience) -> Iterator[None]:
    """Turn errors of requests and (in a body) urllib3 into SourceErrors without the URL, which may hold secrets."""
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
        of_total = "" if part.total is None else f" of {part.total}"
        where = f" after {part.size}{of_total} bytes" if part.size else ""
        raise TryAgain(f"{_root_cause(error)}{where}") from error
    except requests.TooManyRedirects as error:
        raise SourceError(f"more than {_MAX_REDIRECTS} redirects") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise SourceError(f"the request failed ({type(error).__name__})") from error


def _root_cause(error: BaseException) -> str:
    """The operating system's message, from inside the errors of urllib3 and requests."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        link = link.__cause__ or link.__context__
    return "the connection broke off"


def _get(session: requests.Session, url: str, offset: int, patience: Patience) -> requests.Response:
    """The response to a GET from byte `offset` on; its body is not read yet."""
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    return session.get(url, headers=headers, stream=True, timeout=(patience.connect_s, patience.read_s))


def _check_redirect(allow_http: bool, response: requests.Response, **_: Any) -> None:
    """A response hook: raise SourceError if a redirect leaves http(s) or encryption. requests follows the others."""
    if not response.is_redirect:
        return
    # Closed, since requests would read a redirect's body to its end.
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
    """The body's offset and the whole file's size, in bytes; None for what the response does not say."""
    found = re.match(r"bytes (?:(\d{1,18})-\d+|\*)/(\d{1,18}|\*)$", response.headers.get("Content-Range", ""))
    if not found:
        return None, None
    offset, size = found.groups()
    return int(offset) if offset else None, int(size) if size != "*" else None


def _offset(response: requests.Response) -> int | None:
    """The byte of the file at which the body begins; None if that is unknown."""
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
    """The whole file's size in bytes; None if the response does not say it."""
    if response.status_code == 206:
        return _content_range(response)[1]
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"\d{1,18}", length) else None


def _status_in_words(status: int) -> str:
    # Not the server's phrase, which may say anything.
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
    """A reader of the body that raises TryAgain if it was slower than _SLOWEST for `read_s` seconds."""
    # read() waits for all the bytes asked for, which a trickling server never sends. urllib3 1 has no read1.
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
