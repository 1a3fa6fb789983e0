"""A hub for tests: as much of its protocol, on the loopback interface, as huggingface_hub uses."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".parquet", ".zip", ".bin", ".model")
"""What lies in large-file storage, and so has a SHA-256."""
RESOLVE = re.compile(r"/(datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
TREE = re.compile(r"/api/(models|datasets)/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)")


class Hub(ThreadingHTTPServer):
    """Repositories by name (files by path), all at one commit.

    `gated` and `private` need the token; of the files in `cut` only so many bytes are sent at a
    time, then the connection ends, when `go_on` is set; `damaged` replaces what is sent. `sent`
    counts bytes by path.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.token = "hf_" + "t" * 34
        self.cut: dict[str, int] = {}
        self.go_on = threading.Event()
        self.go_on.set()
        self.damaged: dict[str, bytes] = {}
        self.sent: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, folder: Path) -> None:
        """Serve a folder as a repository."""
        self.repositories[name] = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := TREE.fullmatch(path):
            if self._allowed(match, listing=True):
                self._json([_entry(*file) for file in self._files(match).items()])
        elif match := RESOLVE.fullmatch(path):
            if self._allowed(match):
                self._file(match)
        else:
            self._refuse(404, "RepoNotFound")

    do_HEAD = do_GET

    def _files(self, match: re.Match[str]) -> dict[str, bytes]:
        return self.server.repositories[match["name"]]

    def _allowed(self, match: re.Match[str], listing: bool = False) -> bool:
        name, server = match["name"], self.server
        known = self.headers.get("Authorization") == f"Bearer {server.token}"
        if name not in server.repositories or (name in server.private and not known):
            # Whether a private repository exists is not said.
            self._refuse(401 if not known else 404, "RepoNotFound")
        elif match["revision"] not in (COMMIT, "main"):
            self._refuse(404, "RevisionNotFound")
        elif name in server.gated and not known and not listing:
            self._refuse(401, "GatedRepo")
        else:
            return True
        return False

    def _file(self, match: re.Match[str]) -> None:
        files, path = self._files(match), match["path"]
        if path not in files:
            self._refuse(404, "EntryNotFound")
            return
        content = files[path]
        body = self.server.damaged.get(path, content)
        start = 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(asked[1])
        self.send_response(206 if asked else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{_sum(path, content)}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if self.command == "GET":
            part = body[start:][: self.server.cut.get(path)]
            self.server.sent[path] = self.server.sent.get(path, 0) + len(part)
            self.wfile.write(part)
            if path in self.server.cut:
                self.wfile.flush()
                self.server.go_on.wait()
                self.close_connection = True

    def _json(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def _entry(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
    entry = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": _sum(path, content), "size": len(content), "pointerSize": 135}
    return entry


def _sum(path: str, content: bytes) -> str:
    if path.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a hub on a free port of the loopback interface."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
