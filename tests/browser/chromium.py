"""Driving Chromium by its own protocol, over a pipe.

https://chromedevtools.github.io/devtools-protocol/: messages in JSON, each ended by a zero byte;
the browser reads descriptor 3 and writes to 4.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_SECONDS = 60.0
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"),
    "--remote-debugging-pipe",
)
_SCRIPT = 'exec "$0" "$@" 3<&{theirs} 4>&{answers}'


class Chromium:
    """A browser with a profile of its own; a context manager.

    Attributes:
        events: What it told without having been asked, in order.
    """

    def __init__(self, profile: Path) -> None:
        self.events: list[dict[str, Any]] = []
        theirs, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        script = _SCRIPT.format(theirs=theirs, answers=answers)
        flags = (*_FLAGS, f"--user-data-dir={profile}", "about:blank")
        self._process = subprocess.Popen(
            ["bash", "-c", script, shutil.which("chromium") or "chromium", *flags],
            pass_fds=(theirs, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(answers)
        self._held = b""
        self._number = 0

    def call(self, method: str, session: str | None = None, **params: object) -> dict[str, Any]:
        self._number += 1
        order: dict[str, object] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            order["sessionId"] = session
        data = json.dumps(order).encode() + b"\0"
        while data:
            data = data[os.write(self._orders, data) :]
        end = time.monotonic() + _SECONDS
        while (message := self._next(end)).get("id") != self._number:
            self.events.append(message)
        assert "error" not in message, (method, message["error"])
        result: dict[str, Any] = message["result"]
        return result

    def wait_for(self, method: str, session: str) -> None:
        """Until an event has come: now, or before."""
        end = time.monotonic() + _SECONDS
        while not self.told(method, session):
            self.events.append(self._next(end))

    def told(self, method: str, session: str) -> list[dict[str, Any]]:
        """What events of a kind said of a page."""
        ours = (event for event in self.events if event.get("sessionId") == session)
        return [event["params"] for event in ours if event["method"] == method]

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._held:
            left = max(end - time.monotonic(), 0)
            assert select.select([self._answers], [], [], left)[0], "chromium does not answer"
            data = os.read(self._answers, 1 << 16)
            assert data, "chromium has ended"
            self._held += data
        text, _, self._held = self._held.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def close(self) -> None:
        os.close(self._orders)  # it ends without its pipe
        os.close(self._answers)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Page:
    """A page of a file, in a window of some width."""

    def __init__(self, browser: Chromium, path: Path, width: int, *, dark: bool = False) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._target, self._session = target, attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self._emulate("screen", "dark" if dark else "light")
        self._call("Page.navigate", url=path.as_uri())
        self._browser.wait_for("Page.loadEventFired", self._session)

    def _call(self, method: str, **params: object) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def _emulate(self, media: str, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", media=media, features=features)

    def on_paper(self) -> None:
        self._emulate("print", "light")

    def without_scripts(self) -> None:
        """Load it once more, and run none of its scripts."""
        self._call("Emulation.setScriptExecutionDisabled", value=True)
        self._browser.events.clear()
        self._call("Page.reload")
        self._browser.wait_for("Page.loadEventFired", self._session)

    def value(self, expression: str) -> Any:
        """What an expression in the page gives."""
        said = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    @property
    def requests(self) -> list[str]:
        told = self._browser.told("Network.requestWillBeSent", self._session)
        return [one["request"]["url"] for one in told]

    @property
    def refused(self) -> list[str]:
        """Why requests of the page were not even made."""
        told = self._browser.told("Network.loadingFailed", self._session)
        return [one.get("blockedReason", "") for one in told]

    @property
    def complaints(self) -> list[str]:
        """Errors of scripts, and what the browser has refused."""
        thrown = self._browser.told("Runtime.exceptionThrown", self._session)
        logged = self._browser.told("Log.entryAdded", self._session)
        return [str(one) for one in (*thrown, *logged)]

    def screenshot(self, path: Path) -> None:
        """What the window shows."""
        shot = self._call("Page.captureScreenshot")
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        made = self._call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(made["data"])

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)
