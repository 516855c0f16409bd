"""A real Chromium for tests of pages, spoken to over a pipe (DevTools protocol); needs no driver and no network."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

SECONDS = 120
"""After which a browser that does not answer is ended."""
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)


def find_browser() -> str:
    """Path of the browser; without one the test is skipped, or fails where CI is set."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium; on Debian: apt-get install chromium")
        pytest.skip("no Chromium; on Debian: apt-get install chromium")
    return path


@dataclass
class Tab:
    """One page in the browser."""

    commands: IO[bytes]
    replies: IO[bytes]
    session: str = ""
    errors: list[str] = field(default_factory=list)
    """What the console reported as an error, and requests that the page was not allowed to make."""
    number: int = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        return self._wait(lambda reply: reply.get("id") == self.number)

    def wait_for(self, event: str) -> dict[str, Any]:
        """Wait until the page reports an event."""
        return self._wait(lambda reply: reply.get("method") == event)

    def _wait(self, wanted: Any) -> dict[str, Any]:
        while True:
            reply = json.loads(self._read())
            self._note(reply)
            if wanted(reply):
                assert "error" not in reply, reply
                result: dict[str, Any] = reply.get("result", {})
                return result

    def _read(self) -> bytes:
        message = bytearray()
        while (byte := self.replies.read(1)) != b"\0":
            assert byte, "the browser ended"
            message += byte
        return bytes(message)

    def _note(self, reply: dict[str, Any]) -> None:
        parameters = reply.get("params", {})
        if reply.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"]))
        elif reply.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
            self.errors.append(json.dumps(parameters["args"]))
        elif reply.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(json.dumps(parameters["entry"]))

    def open(self, page: Path, *, width: int, height: int = 1000) -> None:
        """Load a file in a window of that many CSS pixels and wait until its scripts have run."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Page.navigate", url=page.as_uri())
        self.wait_for("Page.loadEventFired")

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(image))


@contextmanager
def open_browser(profile: Path) -> Iterator[Tab]:
    """A browser with one empty page, ended with the block.

    Args:
        profile: an empty folder for its files.
    """
    command_read, command_write = os.pipe()
    reply_read, reply_write = os.pipe()
    # Chromium reads commands from descriptor 3 and answers on 4
    redirect = f'exec "$@" 3<&{command_read} 4>&{reply_write}'
    command = ["bash", "-c", redirect, "bash", find_browser(), *FLAGS, "--remote-debugging-pipe"]
    process = subprocess.Popen(
        [*command, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(command_read, reply_write),
        start_new_session=True,
    )
    os.close(command_read)
    os.close(reply_write)
    try:
        with os.fdopen(command_write, "wb") as commands, os.fdopen(reply_read, "rb") as replies:
            tab = Tab(commands, replies)
            target = tab.call("Target.createTarget", url="about:blank")["targetId"]
            tab.session = tab.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                tab.call(f"{domain}.enable")
            yield tab
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
