"""The HTTP server of a warm engine, through the client of vLLM.

1. What the engine gives arrives as it is: ids, logprobs, reason; at once and token by token.
2. Every parameter arrives at the engine.
3. Without the key there is nothing but `/health`; what is refused or fails is told.
4. A client that does not complete its request holds a thread for a bounded time only.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from ajet.backbone.debug.warm_engine import server as server_module
from ajet.backbone.debug.warm_engine.server import CompletionServer
from ajet.engine.scripted import ScriptedEngine
from ajet.engine.vllm.engine import VllmEngine
from ajet.errors import ContextLengthError, EngineError
from ajet.schema.episode import Generation, SamplingParams
from tests.processes.service_processes import eventually

KEY = "secret"
SAID = Generation(token_ids=[5, 6, 7], logprobs=[-0.5, -0.25, -0.125], policy_versions=[0, 0, 0])
PARAMS = SamplingParams(
    max_tokens=8, temperature=0.5, top_p=0.9, top_k=3, seed=11, stop_token_ids=(7,)
)


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(lambda prompt, params, session: SAID, max_model_len=16)


@pytest.fixture
def server(engine: ScriptedEngine) -> Iterator[CompletionServer]:
    with CompletionServer(engine, KEY) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: CompletionServer, prompt: list[int], **options: Any) -> Generation:
    async def scenario() -> Generation:
        return await client.generate(prompt, PARAMS, session="s", **options)

    client = VllmEngine(urls=[server.url], api_key=KEY)
    try:
        assert client.max_model_len == server.engine.max_model_len
        return asyncio.run(scenario())
    finally:
        asyncio.run(client.aclose())


def post(server: CompletionServer, body: Any, **options: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx2.post(f"{server.url}/v1/completions", json=body, headers=headers, **options)


def test_a_completion_arrives_as_it_was_sampled(server, engine):
    assert ask(server, [1, 2, 3]) == SAID
    [request] = engine.requests
    assert (request.prompt_ids, request.params) == ([1, 2, 3], PARAMS)


def test_a_stream_has_the_same_tokens_one_by_one(server):
    told: list[tuple[int, float]] = []
    generation = ask(server, [1, 2, 3], on_token=lambda *token: told.append(token))
    assert generation == SAID
    assert told == list(zip(SAID.token_ids, SAID.logprobs, strict=True))


def test_a_prompt_that_fills_the_context_is_refused(server):
    with pytest.raises(ContextLengthError):
        ask(server, [1] * 16)
    assert post(server, {"prompt": [1] * 16, "max_tokens": 1}).status_code == 400


@pytest.mark.parametrize("options", [{}, {"on_token": print}])
def test_an_engine_that_fails_is_an_error(server, engine, options, monkeypatch):
    async def fail(*args: Any, **kwargs: Any) -> None:
        raise EngineError("it caught fire")

    monkeypatch.setattr(engine, "generate", fail)
    with pytest.raises(EngineError):
        ask(server, [1], **options)


@pytest.mark.parametrize("key", [None, "Bearer wrong", KEY])
def test_without_the_key_there_is_health_only(server, engine, key):
    headers = {"authorization": key} if key else {}
    assert httpx2.get(f"{server.url}/health", headers=headers).status_code == 200
    assert httpx2.get(f"{server.url}/v1/models", headers=headers).status_code == 401
    url = f"{server.url}/v1/completions"
    body = {"prompt": [1], "max_tokens": 1}
    assert httpx2.post(url, json=body, headers=headers).status_code == 401
    assert engine.requests == []


@pytest.mark.parametrize("body", [{}, {"prompt": "text", "max_tokens": 1}, {"prompt": [1]}, []])
def test_a_request_that_is_none_is_refused(server, body):
    assert post(server, body).status_code == 400


def test_other_paths_are_not_there(server):
    headers = {"authorization": f"Bearer {KEY}"}
    assert httpx2.get(f"{server.url}/v1/other", headers=headers).status_code == 404
    assert httpx2.post(f"{server.url}/v1/chat", headers=headers, json={}).status_code == 404


# Clients that send half a request, without a key.

HEAD = f"POST /v1/completions HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\n"


def half_sent(
    server: CompletionServer, text: str = "POST /v1/completions HTTP/1.1\r\nX"
) -> socket.socket:
    client = socket.create_connection(server.server_address[:2], timeout=60.0)
    client.sendall(text.encode())
    return client


def num_threads_of(server: CompletionServer) -> int:
    """Number of this server's request threads. Servers of earlier tests may still have some."""
    targets = [getattr(thread, "_target", None) for thread in threading.enumerate()]
    return targets.count(server.process_request_thread)


@pytest.mark.parametrize("drips", [False, True])
def test_a_request_that_is_not_completed_holds_no_thread(server, monkeypatch, drips):
    clients = [half_sent(server) for _ in range(50)]
    assert eventually(lambda: num_threads_of(server) == 50)

    def has_no_thread() -> bool:
        for client in clients if drips else []:  # a byte now and then does not extend the time
            with contextlib.suppress(OSError):
                client.sendall(b"x")
        return num_threads_of(server) == 0

    assert not has_no_thread()
    monkeypatch.setattr(server_module, "READ_TIMEOUT_S", 0.3)
    assert eventually(has_no_thread)
    assert ask(server, [1, 2, 3]) == SAID
    for client in clients:
        client.close()


def test_half_a_body_holds_no_thread(server, monkeypatch):
    with half_sent(server, f"{HEAD}Content-Length: 9\r\n\r\n1"):
        assert eventually(lambda: num_threads_of(server) == 1)
        monkeypatch.setattr(server_module, "READ_TIMEOUT_S", 0.3)
        assert eventually(lambda: num_threads_of(server) == 0)


def test_connections_are_limited_and_who_waits_longest_makes_room(server, monkeypatch):
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 20)
    clients = [half_sent(server) for _ in range(60)]
    assert ask(server, [1, 2, 3]) == SAID  # a complete request is served all the same
    assert clients[0].recv(10) == b""
    assert eventually(lambda: num_threads_of(server) <= 20)  # of all 60, which came before
    for client in clients:
        client.close()


@pytest.mark.parametrize(("length", "status"), [("abc", 400), ("-1", 400), ("9" * 5000, 413)])
def test_a_content_length_that_is_none_is_refused(server, length, status):
    with half_sent(server, f"{HEAD}Content-Length: {length}\r\n\r\n") as client:
        assert client.recv(100).startswith(f"HTTP/1.1 {status} ".encode())
