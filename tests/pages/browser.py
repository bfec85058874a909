"""Opens a page in headless Chromium over its DevTools protocol and reports what a reader meets."""

import asyncio
import base64
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-port=0",
)

# Words of which a part stands on the next line; a run of letters that no line could hold is none.
BROKEN_WORDS = r"""(() => {
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const words = /(?<![\p{L}\p{N}])[\p{L}\p{N}]{2,30}(?![\p{L}\p{N}])/gu;
  while (walk.nextNode()) {
    const node = walk.currentNode, range = document.createRange();
    if (["SCRIPT", "STYLE"].includes(node.parentNode.tagName)) continue;
    for (const word of node.data.matchAll(words)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = [...range.getClientRects()].filter((r) => r.width).map((r) => r.bottom);
      if (Math.max(...lines) - Math.min(...lines) > 4) found.push(word[0]);
    }
  }
  return found;
})()"""


class Tab:
    """One open page; `complaints`: console output, exceptions, requests that leave the page's own
    place."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._own = ("data:", "file:")
        self._chooser: int | None = None
        self.complaints: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self._next()
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    async def open(self, page: Path | str, width: int, scheme: str = "light") -> None:
        """Open a file, or an address, whose server may then be asked for more."""
        address = page.as_uri() if isinstance(page, Path) else page
        if isinstance(page, str):
            self._own = (page, f"blob:{page}", "data:")
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.call("Emulation.setEmulatedMedia", features=[feature])
        await self.resize(width, 900)
        await self.call("Page.navigate", url=address)
        while (await self._next()).get("method") != "Page.loadEventFired":
            pass

    async def resize(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def value(self, script: str) -> Any:
        answer = await self.call(
            "Runtime.evaluate",
            expression=script,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def key(self, name: str, shift: bool = False) -> None:
        """Press a key: Tab, Enter, Escape, an arrow or a letter."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27} | {
            f"Arrow{way}": 37 + at for at, way in enumerate(("Left", "Up", "Right", "Down"))
        }
        code = codes.get(name) or ord(name.upper())
        text = {"Enter": "\r"}.get(name, name if len(name) == 1 else "")
        key: dict[str, Any] = {"key": name, "code": name, "text": text}
        key |= {"windowsVirtualKeyCode": code, "modifiers": 8 * shift}
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, **key)

    async def drop(self, files: list[Path], selector: str) -> None:
        """Drop files on an element, as a hand would from another window."""
        spot = await self.value(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        # 1: what is dropped is copied.
        data = {"items": [], "files": [str(one) for one in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            await self.call("Input.dispatchDragEvent", type=kind, x=spot[0], y=spot[1], data=data)

    async def choose(self, files: list[Path], press: str) -> None:
        """Press a key that opens the choice of files, and choose some."""
        await self.call("Page.setInterceptFileChooserDialog", enabled=True)
        self._chooser = None
        await self.key(press)
        while self._chooser is None:
            await self._next()
        await self.call(
            "DOM.setFileInputFiles", files=[str(one) for one in files], backendNodeId=self._chooser
        )

    async def screenshot(self, path: Path, width: int) -> None:
        height = await self.value("document.documentElement.scrollHeight")
        await self.resize(width, height)
        picture = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))

    async def _next(self) -> dict[str, Any]:
        message = json.loads((await self._socket.receive(timeout=60)).data)
        params, method = message.get("params", {}), message.get("method")
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        if method == "Runtime.consoleAPICalled":
            self.complaints.append(str(params["args"]))
        if method == "Page.fileChooserOpened":
            self._chooser = params["backendNodeId"]
        if method == "Network.requestWillBeSent":
            address = params["request"]["url"]
            if not address.startswith(self._own):
                self.complaints.append(f"fetched {address}")
        return message


def visit(work: Any) -> Any:
    """Runs `await work(tab)` on a fresh browser with an empty profile, and ends the browser."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            port = next(
                found[1]
                for line in process.stderr
                if (found := re.search(r"listening on ws://127.0.0.1:(\d+)/", line))
            )
            return asyncio.run(_with_tab(int(port), work))
        finally:
            process.terminate()
            process.wait(20)


async def _with_tab(port: int, work: Any) -> Any:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json") as answer:
            targets = json.loads(await answer.text())
        address = next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
        async with session.ws_connect(address, max_msg_size=0) as socket:
            return await work(Tab(socket))
