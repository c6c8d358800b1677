"""A headless Chromium that tests drive, through chromedriver's WebDriver protocol (https://www.w3.org/TR/webdriver2)."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # offline
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's key of an element
MISSING = next((f"{name} is not installed" for name in ("chromium", "chromedriver") if not shutil.which(name)), "")
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Browser:
    """One window."""

    def __init__(self, session: str):
        self.session = session

    def call(self, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.session}/{path}", data, {"Content-Type": "application/json"})
        with direct.open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self.call("url", url=url)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        return self.call("execute/sync", script=f"return {script}", args=[])

    def wait(self, script: str, seconds: float = 60) -> Any:
        """The first value of an expression that is true; what the page says is in the error of one that never is."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {script}\n{self.run('document.body.innerText')}")
            time.sleep(0.1)
        return value

    def element(self, css: str) -> str:
        return self.call("element", using="css selector", value=css)[ELEMENT]

    def upload(self, css: str, *files: Path) -> None:
        self.call(f"element/{self.element(css)}/value", text="\n".join(str(file) for file in files))

    def click(self, css: str) -> None:
        self.call(f"element/{self.element(css)}/click")

    def write(self, css: str, text: str) -> None:
        """Replaces the text of an input."""
        self.call(f"element/{self.element(css)}/clear")
        self.call(f"element/{self.element(css)}/value", text=text)

    def resize(self, width: int, height: int) -> None:
        """Of the page, also below the narrowest window."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=metrics)

    def screenshot(self, file: Path) -> None:
        with direct.open(f"{self.session}/screenshot", timeout=60) as answer:
            file.write_bytes(base64.b64decode(json.load(answer)["value"]))


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A window with a profile of its own, closed at the end."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        started = next(line for line in driver.stdout if "on port" in line and "successfully" in line)
        server = f"http://127.0.0.1:{started.rstrip('. ' + chr(10)).rpartition(' ')[2]}"
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options}}
        session = Browser(server).call("session", capabilities=wanted)["sessionId"]
        browser = Browser(f"{server}/session/{session}")
        try:
            yield browser
        finally:  # the driver does not take its window along
            with direct.open(urllib.request.Request(browser.session, method="DELETE"), timeout=30):
                pass
    finally:
        driver.terminate()
        driver.wait(10)
