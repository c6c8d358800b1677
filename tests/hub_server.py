"""A stand-in for the Hugging Face hub on this machine: models are folders, and commits are written into them."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40


class HubServer(ThreadingHTTPServer):
    """Serves the models below ``root``: ``root/owner/name``.

    Attributes:
        sent: the paths of files that were sent.
        gated: names of models whose files may not be read.
    """

    daemon_threads = True

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.sent, self.gated = root, [], set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            return self._model(*found.groups())
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)/?", path):
            return self._json([entry(file, self._folder(found[1])) for file in files(self._folder(found[1]))])
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(found[1], found[3])
        return self._json({"error": path}, 404)

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            self._folder(name).mkdir(parents=True, exist_ok=True)
            return self._json({"url": f"{self.server.url}/{name}", "name": name, "id": "0" * 24})
        if path.endswith("/preupload/main"):
            asked = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]
            return self._json({"files": modes})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            return self._commit(found[1], body)
        return self._json({"error": path}, 404)

    def _model(self, name, revision):
        if name in self.server.gated:
            return self._json({"error": "gated"}, 403, "GatedRepo")
        if not self._folder(name).is_dir():
            return self._json({"error": "not found"}, 404, "RepoNotFound")
        if revision not in (None, "main", COMMIT):
            return self._json({"error": "not found"}, 404, "RevisionNotFound")
        siblings = [{"rfilename": file} for file in files(self._folder(name))]
        return self._json({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": []})

    def _file(self, name, file):
        found = self._folder(name) / file
        if not found.is_file():
            return self._json({"error": "not found"}, 404, "EntryNotFound")
        content = found.read_bytes()
        if self.command == "GET":
            self.server.sent.append(file)
        self._send(content, 200, {"ETag": f'"{digest(content)}"', "X-Repo-Commit": COMMIT})

    def _commit(self, name, body):
        for line in map(json.loads, body.decode().splitlines()):
            if line["key"] == "file":
                target = self._folder(name) / line["value"]["path"]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(base64.b64decode(line["value"]["content"]))
        self._json({"commitUrl": f"{self.server.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    def _folder(self, name) -> Path:
        return self.server.root / name

    def _json(self, value, status=200, code=None):
        headers = {"Content-Type": "application/json"} | ({"X-Error-Code": code} if code else {})
        self._send(json.dumps(value).encode(), status, headers)

    def _send(self, content, status, headers):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def entry(file: str, folder: Path):
    content = (folder / file).read_bytes()
    return {"type": "file", "path": file, "size": len(content), "oid": digest(content)}


def digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def hub(root: Path, cache: Path, monkeypatch) -> Iterator[HubServer]:
    """Has huggingface_hub speak to a server of ``root`` and keep what it loads in ``cache``."""
    from huggingface_hub import constants, hf_api

    server = HubServer(root)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(hf_api.api, "endpoint", server.url)  # of the functions that diffusers has imported
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
