"""A scripted model behind an OpenAI-compatible URL, with the faults that real servers have."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass(kw_only=True)
class Reply:
    """What the server does with one request."""

    content: str | None = "yes"
    status: int = 200
    delay_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    message: Body = field(default_factory=dict)
    """More fields of the message, such as a refusal."""
    finish_reason: str = "stop"
    raw: bytes | None = None
    """The body of the response instead of a chat completion."""
    wire: bytes | None = None
    """What is written instead of a response; then the connection is closed."""
    hangs_up: bool = False
    """Close the connection without an answer."""

    def body(self) -> bytes:
        if self.raw is not None:
            return self.raw
        if self.status != 200:
            return json.dumps({"error": {"message": self.content, "code": "scripted"}}).encode()
        message = {"role": "assistant", "content": self.content, **self.message}
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        completion = {"id": "x", "object": "chat.completion", "created": 0, "model": "scripted"}
        return json.dumps({**completion, "choices": [choice], "usage": usage}).encode()


Script = Callable[[Body, int], Reply]
"""From the body of a request and its number, from 0, to the reply."""


class ModelServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.requests: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.keys: list[str | None] = []
        """The `Authorization` of each request."""
        self.times: list[float] = []
        self.most_at_once = 0
        self.num_now = 0
        self.lock = threading.Lock()
        self.is_closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: Any) -> None:
        pass  # clients that hang up are part of the tests


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with server.lock:
            number = len(server.requests)
            server.requests.append(body)
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            server.keys.append(self.headers["authorization"])
            server.times.append(time.monotonic())
            server.num_now += 1
            server.most_at_once = max(server.most_at_once, server.num_now)
        try:
            reply = server.script(body, number)
            server.is_closing.wait(reply.delay_s)
        finally:
            with server.lock:
                server.num_now -= 1
        if reply.hangs_up or reply.wire is not None:
            self.close_connection = True
            self.wfile.write(reply.wire or b"")
            return
        answer = reply.body()
        self.send_response(reply.status)
        for name, value in {"content-type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(script: Script | Reply | str) -> Iterator[ModelServer]:
    """A server that listens within the context, and always gives one reply or follows a script."""
    if isinstance(script, str):
        script = Reply(content=script)
    chosen = (lambda _body, _number: script) if isinstance(script, Reply) else script
    with ModelServer(chosen) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.is_closing.set()
            server.shutdown()
            thread.join()
