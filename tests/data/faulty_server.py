"""A local HTTP server of a folder. It answers range requests and fails as often, and in the ways, that a test sets."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

FAULTS = ("delay", "reset", "error", "short", "cut")


class FaultyServer(ThreadingHTTPServer):
    """Serves ``root``.

    Args:
        root: the folder.
        share: of requests for bytes that fail.
        faults: in which ways, chosen at random.
        delay: seconds of a delay.
        in_a_row: at most so many failures for the same range one after the other.
        handler: of its requests; None for plain files.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, root: Path, share=0.0, faults=FAULTS, delay=0.05, in_a_row=3, seed=0, handler=None):
        super().__init__(("127.0.0.1", 0), handler or Handler)
        self.root, self.share, self.faults, self.delay, self.in_a_row = root, share, faults, delay, in_a_row
        self.injected: Counter[str] = Counter()
        self.requests: list[tuple[str, int, int]] = []
        self.lists = True
        self._random, self._lock, self._row = random.Random(seed), threading.Lock(), Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fault(self, request: tuple[str, int, int]) -> str | None:
        with self._lock:
            self.requests.append(request)
            if self._random.random() >= self.share or self._row[request] >= self.in_a_row:
                self._row[request] = 0
                return None
            self._row[request] += 1
            kind = self._random.choice(self.faults)
            self.injected[kind] += 1
            return kind

    def handle_error(self, request, client_address):
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        path = self.server.root / self.path.lstrip("/")
        if not path.is_file():
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        return self.end_headers()

    def do_GET(self):
        path = self.server.root / self.path.strip("/")
        if path.is_dir() and self.server.lists:
            names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
            return self.answer(200, "".join(f'<a href="{name}">{name}</a>' for name in names).encode(), "text/html")
        if not path.is_file():
            return self.send_error(404)
        if (wanted := self.headers.get("Range")) is None:
            return self.answer(200, path.read_bytes())
        start, stop = (int(n) for n in wanted.removeprefix("bytes=").split("-"))
        with open(path, "rb") as file:
            file.seek(start)
            content = file.read(stop + 1 - start)
        return self.fail_or_answer(self.server.fault((self.path, start, stop + 1)), content)

    def fail_or_answer(self, fault, content):
        if fault == "delay":
            time.sleep(self.server.delay)
        if fault == "reset":
            self.close_connection = True
            return self.connection.close()
        if fault == "error":
            return self.answer(503, b"try again")
        if fault == "short":  # fewer bytes than asked for, as a whole answer
            return self.answer(206, content[: len(content) // 2])
        return self.answer(206, content, cut=fault == "cut")

    def answer(self, status, content, kind="application/octet-stream", cut=False):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = self.close_connection or cut


class Hub(Handler):
    """As much of the hub behind ``hf://datasets/me/clips`` as its client asks for to read files of a folder."""

    def do_GET(self):
        address, repository = urlsplit(self.path), "datasets/me/clips"
        if address.path.startswith(tree := f"/api/{repository}/tree/main"):
            folder = self.server.root / address.path.removeprefix(tree).strip("/")
            if not folder.is_dir():
                return self.absent()
            return self.answer_json([self.entry(path) for path in sorted(folder.iterdir())])
        if address.path.startswith(f"/api/{repository}"):
            return self.answer_json({"id": "me/clips", "sha": "0" * 40, "siblings": []})
        self.path = address.path.removeprefix(f"/{repository}/resolve/main")
        return super().do_GET()

    def entry(self, path):
        kind = {"type": "directory"} if path.is_dir() else {"type": "file", "size": path.stat().st_size}
        return {**kind, "path": str(path.relative_to(self.server.root)), "oid": f"{path.stat().st_mtime_ns:040d}"}

    def absent(self):
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer_json(self, value):
        self.answer(200, json.dumps(value).encode(), "application/json")


@contextmanager
def served(root: Path, **kwargs) -> Iterator[FaultyServer]:
    """The server at work in a thread of its own."""
    with FaultyServer(root, **kwargs) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
