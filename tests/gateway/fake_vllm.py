"""A server without a model that has the part of vLLM's API that the client uses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ajet.engine.vllm.client import EXTENSION

MAX_STOPS = 4


class FakeVllm:
    """Answers every completion with the ids 1, 2, 3, ... and the logprob -0.5.

    Attributes:
        requests: the bodies of all requests for completions, in order.
        loaded: folders of weights, in order.
        breaks: answers 500 from now on, and stops in the middle of streams.
        failures: so many of the next completions are answered with 500.
        goes_on: completions wait for it, two minutes at most; it is set at first.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.loaded: list[str] = []
        self.breaks = False
        self.failures = 0
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.server_info: dict[str, Any] = {"worker_extension_cls": EXTENSION}
        fake = self

        class Handler(_Handler):
            owner = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.goes_on.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def fakes(count: int) -> Iterator[list[FakeVllm]]:
    servers = [FakeVllm() for _ in range(count)]
    try:
        yield servers
    finally:
        for server in servers:
            server.close()


class _Handler(BaseHTTPRequestHandler):
    owner: FakeVllm
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.owner.breaks:
            return self._send({"error": "engine core is dead"}, 500)
        path = self.path.partition("?")[0]
        model = {"id": "policy", "max_model_len": 64, "owned_by": "vllm"}
        answers = {"/v1/models": {"data": [model]}, "/server_info": self.owner.server_info}
        self._send(answers.get(path, {}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or "{}")
        if self.path == "/collective_rpc":
            if body["method"] == "ajet_load_weights":
                self.owner.loaded.append(body["kwargs"]["weights"])
            return self._send({"results": [None]})
        if self.path == "/reset_prefix_cache":
            return self._send({"success": True})
        self.owner.requests.append(body)
        self.owner.goes_on.wait(120)
        if len(body["stop"]) > MAX_STOPS:  # as vLLM does, with its words
            error = {"message": f"List should have at most {MAX_STOPS} items", "code": 400}
            return self._send({"error": error}, 400)
        if body.get("stream"):
            return self._stream(body["max_tokens"])
        if self.owner.breaks or self.owner.failures:
            self.owner.failures -= 1
            return self._send({"error": "engine core is dead"}, 500)
        self._send({"choices": [_choice(range(1, body["max_tokens"] + 1), "length")]})

    def _stream(self, count: int) -> None:
        self.send_response(200)
        self.send_header("connection", "close")
        self.end_headers()
        for token in range(1, count + 1):
            if self.owner.breaks and token == 3:
                break
            event = {"choices": [_choice([token], "length" if token == count else None)]}
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        else:
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _send(self, content: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Silence."""


def _choice(ids: Any, finish_reason: str | None) -> dict[str, Any]:
    ids = list(ids)
    return {
        "token_ids": ids,
        "logprobs": {"token_logprobs": [-0.5] * len(ids)},
        "finish_reason": finish_reason,
    }
