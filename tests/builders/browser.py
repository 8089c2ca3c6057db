"""A headless Chromium, driven over pipes with the DevTools protocol."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio"),
    *("--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--no-default-browser-check", "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-pipe"),
)


class Browser:
    """One page of a browser; `events` collects its messages."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; AssertionError if the browser reports an error."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def wait(self, event: str) -> dict[str, Any]:
        """Return the next event of that name."""
        while True:
            message = self._read()
            if message.get("method") == event:
                return message["params"]

    def _read(self, seconds: float = 60) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._from], [], [], seconds)[0], "no message from the browser"
            data = os.read(self._from, 1 << 20)
            assert data, "the browser closed its pipe"
            self._rest += data
        data, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(data)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, path: Path) -> None:
        """Load a file and wait until it is complete."""
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("Page.loadEventFired")

    def look(self, width: int, height: int = 900, scheme: str = "light", media: str = "") -> None:
        """Set the window's size, the colour scheme, and "print" or the screen."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def run(self, script: str) -> Any:
        """Return the JSON value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press_tab(self) -> None:
        """Press and release the tabulator key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)

    def pdf(self) -> bytes:
        """Return the page as it prints on A4."""
        answer = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)
        return base64.b64decode(answer["data"])

    def screenshot(self, path: Path, full_page: bool = True) -> None:
        """Write a PNG of the window, or of the whole page."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=full_page)
        if full_page:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            answer = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip={**size, "scale": 1})
        path.write_bytes(base64.b64decode(answer["data"]))

    def requests(self) -> list[str]:
        """Return the URLs requested since `open`."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Return console messages and exceptions since `open`."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(e["params"])[:500] for e in self.events if e["method"] in kinds]


@contextmanager
def opened(folder: Path) -> Iterator[Browser]:
    """Start a browser with an empty profile in `folder`; it ends with the block."""
    assert CHROMIUM is not None
    read_in, write_in = os.pipe()
    read_out, write_out = os.pipe()
    # descriptors 3 and 4 are what the browser reads and writes; the shell puts ours there, whatever their numbers
    script = 'exec "$0" "$@" 3<&"$MAGIC_IN" 4>&"$MAGIC_OUT"'
    shell = shutil.which("bash") or "bash"
    environment = os.environ | {"MAGIC_IN": str(read_in), "MAGIC_OUT": str(write_out), "HOME": str(folder)}
    command = [shell, "-c", script, CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}"]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, pass_fds=(read_in, write_out), env=environment)
    os.close(read_in)
    os.close(write_out)
    try:
        browser = Browser(write_in, read_out)
        yield browser
    finally:
        os.close(write_in)
        os.close(read_out)
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 5
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if process.poll() is None:
        process.kill()
    process.wait()
