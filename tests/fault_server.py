"""An HTTP server on the loopback that misbehaves on request, and records its requests and what it sent.

A test gives it a body and a script: one `Reply` for each request.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_BLOCK = 64 * 1024
ENDLESS = 64 << 20  # bytes; a client that reads them all has not noticed the fault


@dataclass
class Reply:
    """What to do with one request; the default is an honest server's answer, ranges included.

    An error has no body.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # replaces the server's body
    delay_s: float = 0  # before the first byte
    cut: int | None = None  # bytes of this answer's body after which the connection closes
    stall_s: float = 0  # between the cut and the close
    drip: int = 1  # bytes in one piece
    drip_s: float = 0  # between two pieces
    claim: int | None = None  # a false Content-Length
    no_length: bool = False
    endless: bool = False
    ignore_range: bool = False
    range_start: int | None = None  # the answer's Content-Range begins here, for any request
    unknown_total: bool = False  # Content-Range: bytes a-b/*


@dataclass
class Seen:
    """One request, and how many bytes of body were sent in answer."""

    path: str
    headers: dict[str, str]
    sent: int = 0

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


class FaultServer:
    def __init__(self, body: bytes = b"", script: Sequence[Reply] = ()) -> None:
        self.closing = threading.Event()
        self.play(body, script)
        handler = type("Handler", (_Handler,), {"scene": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.scheme = "http"

    def play(self, body: bytes, script: Sequence[Reply] = ()) -> None:
        """Start again: after the script's last reply, every answer is honest."""
        self.body, self._script, self.seen = body, list(script), []

    def next_reply(self) -> Reply:
        return self._script.pop(0) if self._script else Reply()

    def encrypt(self, certificate: Path, key: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.scheme = "https"

    def url(self, path: str = "/model.pth") -> str:
        return f"{self.scheme}://127.0.0.1:{self._http.server_port}{path}"

    @property
    def sent(self) -> int:
        """Bytes of all bodies."""
        return sum(seen.sent for seen in self.seen)

    @property
    def ranges(self) -> list[str | None]:
        return [seen.range for seen in self.seen]

    @contextlib.contextmanager
    def running(self) -> Iterator[FaultServer]:
        thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            self._http.shutdown()
            self._http.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scene: FaultServer

    def handle(self) -> None:
        # In some tests the client hangs up.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        seen = Seen(self.path, {name.lower(): value for name, value in self.headers.items()})
        self.scene.seen.append(seen)
        reply = self.scene.next_reply()
        if reply.delay_s:
            self.scene.closing.wait(reply.delay_s)
        self._answer(reply, seen)

    def _answer(self, reply: Reply, seen: Seen) -> None:
        whole = self.scene.body if reply.body is None else reply.body
        asked = re.fullmatch(r"bytes=(\d+)-", seen.range or "")
        start, status = 0, reply.status
        if asked and status == 200 and not reply.ignore_range:
            start = int(asked.group(1))
            status = 206 if start < len(whole) else 416
        if reply.range_start is not None:
            start, status = reply.range_start, 206
        body = whole[start:] if status < 400 else b""
        self._head(reply, status, start, len(whole), len(body))
        self._send(reply, body, seen)

    def _head(self, reply: Reply, status: int, start: int, total: int, length: int) -> None:
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{'*' if reply.unknown_total else total}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{total}")
        if reply.no_length or reply.endless:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length if reply.claim is None else reply.claim))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, reply: Reply, body: bytes, seen: Seen) -> None:
        is_broken = reply.cut is not None or reply.no_length or reply.endless or reply.claim is not None
        self.close_connection = self.close_connection or is_broken
        if reply.drip_s:
            for position in range(0, len(body), reply.drip):
                self._write(body[position : position + reply.drip], seen)
                if self.scene.closing.wait(reply.drip_s):
                    return
            return
        self._write(body if reply.cut is None else body[: reply.cut], seen)
        while reply.endless and seen.sent < ENDLESS:
            self._write(bytes(_BLOCK), seen)
        if reply.stall_s:
            self.scene.closing.wait(reply.stall_s)

    def _write(self, data: bytes, seen: Seen) -> None:
        for position in range(0, len(data), _BLOCK):
            block = data[position : position + _BLOCK]
            self.wfile.write(block)
            seen.sent += len(block)

    def log_message(self, format: str, *args: object) -> None:
        pass
