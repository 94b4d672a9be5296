"""Headless Chromium, driven over WebDriver's HTTP (https://www.w3.org/TR/webdriver2/) by chromedriver.

Gives a page's pixels, console and requests. The tests decide what is right.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Browser:
    """One window; its size and colours may be set before a page is opened, or while one is."""

    def __init__(self, session: str) -> None:
        self._session = session

    def _call(self, method: str, path: str, data: dict[str, Any] | None = None) -> Any:
        answer = requests.request(method, f"{self._session}/{path}", json=data, timeout=600)
        value = answer.json()["value"]
        assert answer.ok, value
        return value

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._call("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, address: str) -> None:
        self._call("POST", "url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that the body of a function, `script`, returns."""
        return self._call("POST", "execute/sync", {"script": script, "args": list(arguments)})

    def log(self, kind: str) -> list[dict[str, Any]]:
        """What came into the log `browser` (the console) or `performance` since it was last read."""
        return self._call("POST", "se/log", {"type": kind})

    def requested(self) -> list[str]:
        """The addresses that the pages asked for since this was last read."""
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent]

    def resize(self, width: int, height: int = 900) -> None:
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, key: str, code: int = 0) -> None:
        """A key of the keyboard, down and up, by its DOM name: Tab, ArrowRight, " "."""
        text = {"text": key} if len(key) == 1 else {}
        self.devtools("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.devtools("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def screenshot(self, *, whole: bool = False) -> bytes:
        """The window, or the whole page, as PNG."""
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser of its own, gone when the block ends."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    assert driver and chromium, "Chromium or its driver is not installed: run scripts/environment test"
    with tempfile.TemporaryDirectory(prefix="browser-") as profile:
        process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        try:
            port = next(found[1] for line in process.stdout if (found := re.search(r"started .* port (\d+)", line)))
            options = {"binary": chromium, "args": [*_FLAGS, f"--user-data-dir={profile}"]}
            wanted = {
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            server = f"http://127.0.0.1:{port}/session"
            answer = requests.post(server, json={"capabilities": {"alwaysMatch": wanted}}, timeout=600)
            assert answer.ok, answer.text
            session = f"{server}/{answer.json()['value']['sessionId']}"
            window = Browser(session)
            window.open("about:blank")  # the browser's own first page sends requests
            window.requested()
            yield window
            requests.delete(session, timeout=600)
        finally:
            process.terminate()
            process.wait()
