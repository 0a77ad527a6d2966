"""A server on the loopback that speaks the hub's routes for one data set, from a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """Serves `folder` as the data set `name`.

    Attributes:
        fetched: bytes of data files that were sent.
    """

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.name = name
        self.fetched = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def entries(self) -> list[dict[str, object]]:
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [
            {
                "type": "file",
                "path": str(path.relative_to(self.folder)),
                "rfilename": str(path.relative_to(self.folder)),
                "size": path.stat().st_size,
                "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
            }
            for path in paths
        ]

    def tree(self, folder: str, *, recursive: bool) -> list[dict[str, object]]:
        start = f"{folder}/" if folder else ""
        below = [x for x in self.entries() if str(x["path"]).startswith(start)]
        deep = [x for x in below if "/" in str(x["path"]).removeprefix(start)]
        names = {start + str(x["path"]).removeprefix(start).split("/")[0] for x in deep}
        folders = [{"type": "directory", "path": x, "size": 0, "oid": COMMIT} for x in names]
        files = below if recursive else [x for x in below if x not in deep]
        return [*files, *folders]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        wanted = json.loads(body) if body.startswith("{") else parse_qs(body)
        entries = [x for x in self.server.entries() if x["path"] in wanted.get("paths", [])]
        self._send(200, json.dumps(entries).encode())

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        name = self.server.name
        if path.startswith(f"/datasets/{name}/resolve/"):
            return self._file(path.split("/resolve/")[1].partition("/")[2])
        api = f"/api/datasets/{name}"
        if path.startswith(f"{api}/tree/"):
            prefix = path.removeprefix(f"{api}/tree/").partition("/")[2]
            recursive = "recursive=true" in self.path.lower()
            if entries := self.server.tree(prefix, recursive=recursive):
                return self._send(200, json.dumps(entries).encode())
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            info = {"id": name, "sha": COMMIT, "siblings": self.server.entries(), "tags": []}
            info |= {"private": False, "gated": False, "disabled": False, "downloads": 0}
            return self._send(200, json.dumps(info).encode())
        self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _file(self, name: str) -> None:
        path = self.server.folder / name
        if not path.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        body = path.read_bytes()
        etag = f'"{hashlib.sha1(body).hexdigest()}"'
        status, headers = 200, {"ETag": etag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last or len(body) - 1)
            headers["Content-Range"] = f"bytes {start}-{min(end, len(body) - 1)}/{len(body)}"
            status, body = 206, body[start : end + 1]
        if self.command == "GET":
            self.server.fetched += len(body)
        self._send(status, body, headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def hub(folder: Path, name: str) -> Iterator[HubServer]:
    """A running server."""
    server = HubServer(folder, name)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
