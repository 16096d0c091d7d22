"""A real browser for tests: headless Chromium, driven through its own debugging pipe by real mouse clicks."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip


class Page:
    """A page that is open in a browser.

    Attributes:
        errors: What its console complained of.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, os.fdopen(answers, "rb")
        self._number, self._session, self._buffer = 0, "", b""
        self.errors: list[str] = []
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._send(f"{domain}.enable")

    def _send(self, method: str, **parameters: Any) -> Any:
        """Give a command and return its answer; what is said meanwhile is listened to."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> Any:
        while b"\0" not in self._buffer:
            more = self._answers.read1(1 << 16)
            assert more, "the browser has gone"
            self._buffer += more
        text, _, self._buffer = self._buffer.partition(b"\0")
        said = json.loads(text)
        if said.get("method") == "Runtime.exceptionThrown":
            self.errors.append(said["params"]["exceptionDetails"]["text"])
        if said.get("method") == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
            self.errors.append(said["params"]["entry"]["text"])
        if said.get("method") == "Runtime.consoleAPICalled" and said["params"]["type"] == "error":
            self.errors.append(str(said["params"]["args"]))
        return said

    def open(self, page: Path | str, width: int = 1280) -> None:
        """Open a file or an address, at a width in pixels, and return when all of it is loaded."""
        self.resize(width)
        self._send("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def resize(self, width: int) -> None:
        """Give the page a width in pixels."""
        self._send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)

    def wait(self, expression: str, patience_s: float = 30.0) -> None:
        """Return once a JavaScript expression holds."""
        script = (
            f"new Promise((done, fail) => {{ const until = Date.now() + {1000 * patience_s:.0f}; const look = () => "
            f"({expression}) ? done(true) : Date.now() > until ? done(false) : setTimeout(look, 50); look(); }})"
        )
        found = self._send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert found["result"].get("value") is True, f"this never came true: {expression}"

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression gives."""
        return self._send("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def click(self, element: str) -> None:
        """Click with the mouse into the middle of the element that an expression names."""
        self.value(f"{element}.scrollIntoView({{block: 'center'}})")
        box = self.value(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({element}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self._send("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def _move(self, element: str, x: float, y: float, pressed: bool = False) -> tuple[float, float]:
        """Move the mouse to a place in an element, in parts of its width and height."""
        box = self.value(f"(box => [box.x, box.y, box.width, box.height])({element}.getBoundingClientRect())")
        at = box[0] + x * box[2], box[1] + y * box[3]
        held = {"button": "left", "buttons": 1} if pressed else {}
        self._send("Input.dispatchMouseEvent", type="mouseMoved", x=at[0], y=at[1], **held)
        return at

    def hover(self, element: str, x: float = 0.5, y: float = 0.5) -> None:
        """Hold the mouse over a place in an element, in parts of its width and height."""
        self.value(f"{element}.scrollIntoView({{block: 'center'}})")
        self._move(element, x, y)

    def drag(self, element: str, begin: float, end: float) -> None:
        """Drag the mouse across an element, from one part of its width to another."""
        self.hover(element, begin)
        for kind, x in (("mousePressed", begin), ("mouseReleased", end)):
            at = self._move(element, x, 0.5, pressed=kind == "mouseReleased")
            self._send("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", clickCount=1)

    def write(self, text: str) -> None:
        """Type a text into what has the focus."""
        self._send("Input.insertText", text=text)

    def colours(self, scheme: str) -> None:
        """Let the reader prefer "light" or "dark"."""
        self._send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            for kind in ("keyDown", "keyUp"):
                self._send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=CODES[key])

    def picture(self, path: Path) -> None:
        """Write a picture of the whole page."""
        found = self._send("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(found["data"]))


CODES = {
    "+": 187,
    "ArrowDown": 40,
    "ArrowUp": 38,
    "ArrowLeft": 37,
    "ArrowRight": 39,
    "End": 35,
    "Enter": 13,
    "Escape": 27,
}


@contextmanager
def browser(folder: Path, *flags: str) -> Iterator[Page]:
    """Start a browser.

    Args:
        folder: For what it keeps.
        flags: Of its command line, beside those that every test needs.
    """
    assert CHROMIUM is not None, "skip the test where there is none"
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # It reads commands from 3 and answers on 4; by way of high numbers, since ours may be these very ones.
    script = f'exec 13<&{theirs_in} 14>&{theirs_out}; exec 3<&13 4>&14 13<&- 14>&-; exec "$@"'
    command = ["bash", "-c", script, "browser", CHROMIUM, *FLAGS, *flags, f"--user-data-dir={folder / 'browser'}"]
    process = subprocess.Popen(
        command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        page = Page(ours_out, ours_in)
        yield page
        page._answers.close()
    finally:
        process.kill()
        process.wait()
        os.close(ours_out)
