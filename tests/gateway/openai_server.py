"""A fake model behind an OpenAI-compatible URL, which reports text and no tokens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ajet.gateway.upstream import UpstreamModel

KEY = "sk-of-the-user"


class Server(ThreadingHTTPServer):
    """The fake model's server; it keeps the requests that it gets."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        """Path, `Authorization` and body of each request."""
        self.status = 200
        self.answer: str | None = None
        """Given to POST requests instead of a completion."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def model(self) -> UpstreamModel:
        return UpstreamModel(model="gpt-x", base_url=self.url, api_key=KEY)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    """Connections stay open, as those of real servers, so that clients use them again."""

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers["authorization"], {}))
        self._reply(json.dumps({"data": [{"id": "gpt-x"}]}), "application/json")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append((self.path, self.headers["authorization"], body))
        if self.server.answer is not None:
            answer = self.server.answer
        elif self.server.status != 200:
            answer = json.dumps({"error": {"message": "no", "code": "no_key"}})
        elif body.get("stream"):
            delta = {"index": 0, "delta": {"content": "strange"}, "finish_reason": "stop"}
            answer = f"data: {json.dumps(completion(delta, 'chat.completion.chunk'))}\n\n"
            answer += "data: [DONE]\n\n"
        else:
            message = {"role": "assistant", "content": "strange"}
            answer = json.dumps(
                completion({"index": 0, "message": message, "finish_reason": "stop"})
            )
        kind = "text/event-stream" if body.get("stream") else "application/json"
        self._reply(answer, kind)

    def _reply(self, answer: str, kind: str) -> None:
        self.send_response(self.server.status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: Any) -> None:
        pass


def completion(choice: dict[str, Any], kind: str = "chat.completion") -> dict[str, Any]:
    return {"id": "x", "object": kind, "created": 0, "model": "gpt-x", "choices": [choice]}


@contextmanager
def serving() -> Iterator[Server]:
    """A server that listens within the context."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
