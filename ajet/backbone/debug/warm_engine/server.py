"""Serves an engine over the part of vLLM's HTTP API that `ajet.engine.vllm` uses.

`GET /health`, `GET /v1/models` and `POST /v1/completions` with a prompt of token ids, whose answer
has the ids and logprobs that were sampled, at once or as a stream. Loopback only.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from ajet.background_loop import start
from ajet.engine.base import Engine
from ajet.errors import AjetError, EngineError
from ajet.schema.episode import Generation, SamplingParams

MODEL_NAME = "policy"
MAX_BODY_BYTES = 64 * 2**20
MAX_LENGTH_DIGITS = 12
READ_TIMEOUT_S = 60.0
"""From the connection, or the answer before, to the end of a request; a client of ours reuses no
connection that was idle for more than 2 s. Also how long a client may read nothing of an answer."""
MAX_CONNECTIONS = 512
"""Each has a thread. One more closes the connection that has waited longest for its request."""
SESSION = "warm"
"""One session for all requests: the embedded engine finds cached prefixes by their tokens."""

logger = logging.getLogger(__name__)


class CompletionRequest(BaseModel):
    """The fields of a request that are used; others are ignored."""

    prompt: list[int]
    max_tokens: int = Field(gt=0)
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = 0
    seed: int | None = None
    stop_token_ids: list[int] = []
    stop: list[str] = []
    structured_outputs: dict[str, str] = {}
    """`{"grammar": ...}`: what the completion must match."""
    stream: bool = False

    def params(self) -> SamplingParams:
        """The sampling parameters for the engine."""
        return SamplingParams(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=max(0, self.top_k),
            seed=self.seed,
            stop_token_ids=tuple(self.stop_token_ids),
            stop=tuple(self.stop),
            grammar=self.structured_outputs.get("grammar"),
        )


class CompletionServer(ThreadingHTTPServer):
    """HTTP server on a free loopback port. It listens once created; `serve_forever` answers."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, engine: Engine, api_key: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.engine = engine
        self.waiting: dict[socket.socket, float] = {}
        """The connections whose request is not complete, oldest first, with the time since when."""
        self._num_open = 0
        self._lock = threading.Lock()
        self.expected = f"Bearer {api_key}".encode()

    @property
    def url(self) -> str:
        """The base URL, without `/v1`."""
        return f"http://127.0.0.1:{self.server_port}"

    def service_actions(self) -> None:
        """Close the connections that wait for too long; `serve_forever` calls this regularly."""
        now = time.monotonic()
        with self._lock:
            late = [one for one, since in self.waiting.items() if now - since > READ_TIMEOUT_S]
            for connection in late:
                self._close(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a new connection in a thread of its own."""
        with self._lock:
            self._num_open += 1
            if self._num_open > MAX_CONNECTIONS and self.waiting:
                self._close(next(iter(self.waiting)))
        self.expects(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Take back what a connection had; it has ended."""
        with self._lock:
            self.waiting.pop(request, None)
            self._num_open -= 1
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what ended a connection; a client that is gone is nothing to report."""
        level = logging.DEBUG if isinstance(sys.exception(), OSError) else logging.ERROR
        logger.log(level, "a connection has ended", exc_info=True)

    def expects(self, connection: socket.socket) -> None:
        """Note that this connection waits for a request."""
        with self._lock:
            self.waiting.pop(connection, None)  # so that it becomes the last one
            self.waiting[connection] = time.monotonic()

    def has_received(self, connection: socket.socket) -> None:
        """Note that the request of this connection is complete."""
        with self._lock:
            self.waiting.pop(connection, None)

    def _close(self, connection: socket.socket) -> None:
        """Let the thread that reads from this connection see its end."""
        self.waiting.pop(connection)
        with contextlib.suppress(OSError):  # the client was faster
            connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = READ_TIMEOUT_S
    server: CompletionServer

    def handle_one_request(self) -> None:
        self.server.expects(self.connection)
        super().handle_one_request()

    def do_GET(self) -> None:
        self.server.has_received(self.connection)
        if self.path == "/health":
            self._reply(HTTPStatus.OK, None)
        elif self._is_allowed():
            if self.path == "/v1/models":
                self._reply(HTTPStatus.OK, {"object": "list", "data": [self._model()]})
            else:
                self._refuse(HTTPStatus.NOT_FOUND, f"GET {self.path} is not served here")

    def do_POST(self) -> None:
        if not self._is_allowed():
            return
        given = self.headers.get("content-length", "0")
        if not (given.isascii() and given.isdecimal()):
            self._refuse(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
            return
        if len(given) > MAX_LENGTH_DIGITS or int(given) > MAX_BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too long")
            return
        body = self.rfile.read(int(given))
        self.server.has_received(self.connection)
        if self.path != "/v1/completions":
            self._refuse(HTTPStatus.NOT_FOUND, f"POST {self.path} is not served here")
            return
        try:
            self._complete(CompletionRequest.model_validate_json(body))
        except ValidationError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))

    def _complete(self, request: CompletionRequest) -> None:
        if request.stream:
            self._stream(request)
            return
        try:
            generation = self._generate(request).result()
        except AjetError as error:
            is_ours = isinstance(error, EngineError)
            status = HTTPStatus.INTERNAL_SERVER_ERROR if is_ours else HTTPStatus.BAD_REQUEST
            self._refuse(status, str(error))
            return
        answer = _answer(generation.token_ids, generation.logprobs, generation.finish_reason)
        self._reply(HTTPStatus.OK, answer)

    def _stream(self, request: CompletionRequest) -> None:
        """Send one event per token; the last one has the finish reason or the error."""
        sampled: SimpleQueue[tuple[int, float] | None] = SimpleQueue()
        asked = self._generate(request, lambda *token: sampled.put(token))
        asked.add_done_callback(lambda _: sampled.put(None))
        self.close_connection = True  # the client sees the end of the stream by it
        self.send_response(HTTPStatus.OK)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        try:
            while (token := sampled.get()) is not None:
                self._event(_answer([token[0]], [token[1]], None))
            if error := asked.exception():
                self._event({"error": str(error)})
            else:
                self._event(_answer([], [], asked.result().finish_reason))
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:  # the client left
            asked.cancel()

    def _generate(
        self, request: CompletionRequest, on_token: Callable[[int, float], None] | None = None
    ) -> Future[Generation]:
        engine = self.server.engine
        return start(
            engine.generate(request.prompt, request.params(), session=SESSION, on_token=on_token)
        )

    def _is_allowed(self) -> bool:
        given = self.headers.get("authorization", "").encode()
        if hmac.compare_digest(given, self.server.expected):
            return True
        self._refuse(HTTPStatus.UNAUTHORIZED, "the API key is wrong")
        return False

    def _model(self) -> dict[str, Any]:
        return {
            "id": MODEL_NAME,
            "object": "model",
            "owned_by": "agentjet",
            "max_model_len": self.server.engine.max_model_len,
        }

    def _event(self, content: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(content)}\n\n".encode())

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self.close_connection = True  # an unread body would be taken for the next request
        self._reply(status, {"error": {"message": message, "code": status.value}})

    def _reply(self, status: HTTPStatus, content: Any) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


def _answer(ids: list[int], logprobs: list[float], finish_reason: str | None) -> dict[str, Any]:
    choice = {
        "index": 0,
        "text": "",  # our client reads only the ids
        "token_ids": ids,
        "logprobs": {"token_logprobs": logprobs},
        "finish_reason": finish_reason,
    }
    return {"model": MODEL_NAME, "choices": [choice]}
