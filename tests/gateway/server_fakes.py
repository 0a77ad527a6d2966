"""A gateway on a socket, an engine that can be paused, and requests written as bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from ajet.config.sections.interchange_server import InterchangeServerConfig
from ajet.context_tracker.chat_format import load_chat_format, load_tokenizer
from ajet.context_tracker.tracker import ContextTracker, EpisodeRecord
from ajet.engine.base import OnToken
from ajet.gateway.clients.http_endpoint import BaseUrlAndApiKey, HttpEndpoint
from ajet.gateway.gateway import Gateway
from ajet.gateway.request import SamplingDefaults
from ajet.schema.episode import Generation, SamplingParams
from ajet.tuner import AjetTuner

TOKENIZER = load_tokenizer("ajet/tiny_model/calculator")
CHAT_FORMAT = load_chat_format(TOKENIZER, "qwen3", {"enable_thinking": False})
ANSWER = "Answer: 8"
ANSWER_IDS = [*TOKENIZER.encode(ANSWER), CHAT_FORMAT.stop_token_ids[0]]
WAIT_S = 60.0
"""Longest wait for an event; a test that waits this long has failed."""


class HeldEngine:
    """Gives `num_first` tokens of `answer_ids`, then waits for `release`, then gives the rest."""

    policy_version = 0
    max_model_len = 100_000

    def __init__(
        self,
        *,
        held: bool = True,
        num_first: int = 0,
        answer_ids: Sequence[int] = tuple(ANSWER_IDS),
    ) -> None:
        self.answer_ids = list(answer_ids)
        self.num_first = num_first
        self.release = threading.Event()
        if not held:
            self.release.set()
        self.num_running = self.most_running = self.num_cancelled = 0
        self.sessions: list[str] = []
        """The session of each request, in the order of arrival."""

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        session: str,
        on_token: OnToken | None = None,
    ) -> Generation:
        self.sessions.append(session)
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        try:
            self._give(on_token, 0, self.num_first)
            while not self.release.is_set():
                await asyncio.sleep(0.005)
            self._give(on_token, self.num_first, len(self.answer_ids))
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.num_running -= 1
        count = len(self.answer_ids)
        return Generation(
            token_ids=list(self.answer_ids), logprobs=[-0.5] * count, policy_versions=[0] * count
        )

    def open_session(self, session: str) -> None:
        pass

    def close_session(self, session: str) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def _give(self, on_token: OnToken | None, start: int, end: int) -> None:
        for token in self.answer_ids[start:end] if on_token else ():
            on_token(token, -0.5)


class Served:
    """Episodes whose agents use HTTP."""

    def __init__(self, engine: Any, **settings: Any) -> None:
        self.engine = engine
        self.http_endpoint = HttpEndpoint(InterchangeServerConfig(**settings))
        self.gateway = Gateway(
            chat_format=CHAT_FORMAT,
            engine=engine,
            defaults=SamplingDefaults(),
        )

    @property
    def listener(self) -> socket.socket:
        assert self.http_endpoint._server is not None
        return self.http_endpoint._server._socket

    @property
    def connections(self) -> set[Any]:
        """The server's open connections."""
        assert self.http_endpoint._server is not None
        return self.http_endpoint._server._uvicorn.server_state.connections

    @property
    def num_present(self) -> int:
        """Requests that run or wait."""
        assert self.http_endpoint._server is not None
        return self.http_endpoint._server.admission.num_present

    @property
    def num_queued(self) -> int:
        """Requests that have arrived with their body, and wait."""
        assert self.http_endpoint._server is not None
        return len(self.http_endpoint._server.admission._places._waiters or ())

    def episode(self, name: str = "episode") -> tuple[AjetTuner, BaseUrlAndApiKey]:
        tracker = ContextTracker(CHAT_FORMAT, episode_id=name, task_id="task")
        tuner = AjetTuner(
            config=None,
            gateway=self.gateway,
            record=EpisodeRecord(tracker),
            http_endpoint=self.http_endpoint,
        )
        return tuner, tuner.as_oai_baseurl_apikey()


@contextmanager
def serving(engine: Any = None, **settings: Any) -> Iterator[Served]:
    served = Served(engine or HeldEngine(held=False), **settings)
    try:
        yield served
    finally:
        served.http_endpoint.close()


def client_of(endpoint: BaseUrlAndApiKey, **options: Any) -> httpx2.Client:
    return httpx2.Client(
        base_url=endpoint.base_url,
        headers={"Authorization": f"Bearer {endpoint.api_key}"},
        trust_env=False,
        timeout=WAIT_S,
        **options,
    )


def chat(text: str = "4 + 4?", **fields: Any) -> dict[str, Any]:
    return {"model": "policy", "messages": [{"role": "user", "content": text}], **fields}


def ask(endpoint: BaseUrlAndApiKey, text: str = "4 + 4?", **fields: Any) -> httpx2.Response:
    with client_of(endpoint) as client:
        return client.post("/chat/completions", json=chat(text, **fields))


def connect(endpoint: BaseUrlAndApiKey) -> socket.socket:
    url = urlsplit(endpoint.base_url)
    return socket.create_connection((url.hostname, url.port), timeout=WAIT_S)


def slow_reader(served: Served, endpoint: BaseUrlAndApiKey) -> socket.socket:
    """A connection with tiny buffers, for a client that does not read."""
    served.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    url = urlsplit(endpoint.base_url)
    connection = socket.socket()
    connection.settimeout(WAIT_S)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((url.hostname, url.port))
    return connection


def head_of(
    endpoint: BaseUrlAndApiKey,
    *more: str,
    line: str = "POST /v1/chat/completions HTTP/1.1",
    host: str | None = "127.0.0.1",
    length: int | None = None,
) -> bytes:
    """A request's head, with its key; `more` are whole header lines."""
    lines = [line, f"Authorization: Bearer {endpoint.api_key}", *more]
    lines += [] if host is None else [f"Host: {host}"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def request_of(endpoint: BaseUrlAndApiKey, text: str = "4 + 4?", **fields: Any) -> bytes:
    """A whole request, as a client would write it."""
    body = json.dumps(chat(text, **fields)).encode()
    return head_of(endpoint, length=len(body)) + body


def receive_answer(connection: socket.socket) -> bytes:
    """Receive one answer that has a `Content-Length`: head and body."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        assert (data := connection.recv(65536)), f"closed after {answer!r}"
        answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        assert (data := connection.recv(65536)), f"closed after {len(body)} of {length} bytes"
        body += data
    return head + b"\r\n\r\n" + body


def receive_all(connection: socket.socket) -> bytes:
    """Receive until the server closes or resets the connection."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def status_of(answer: bytes) -> int:
    """The status of an answer; 0 if there is none."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


def eventually(condition: Any) -> bool:
    """Whether the condition becomes true within `WAIT_S`."""
    waiting = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        if condition():
            return True
        waiting.wait(0.01)
    return False
