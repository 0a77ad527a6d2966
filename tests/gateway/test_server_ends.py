"""Requests that end without an answer: the client leaves, the server stops, the engine fails."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2
import pytest

from ajet.errors import EngineError
from ajet.gateway.server import http_server
from tests.gateway.server_fakes import (
    WAIT_S,
    HeldEngine,
    ask,
    chat,
    client_of,
    connect,
    eventually,
    receive_all,
    request_of,
    serving,
    status_of,
)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_dies_cancels_its_request_and_leaves_no_trace(stream):
    with serving(HeldEngine(num_first=2)) as served:
        tuner, endpoint = served.episode()
        with connect(endpoint) as connection:
            connection.sendall(request_of(endpoint, stream=stream))
            assert eventually(lambda: served.engine.num_running == 1)
            if stream:
                assert connection.recv(10).startswith(b"HTTP/1.1 2")
        assert eventually(lambda: served.engine.num_cancelled == 1)
        assert eventually(lambda: served.num_present == 0)
        served.engine.release.set()
        assert ask(endpoint).status_code == 200
    assert len(tuner.get_context_tracker().calls) == 1


def test_a_client_that_gives_up_waiting_cancels_its_request():
    with serving(HeldEngine()) as served:
        tuner, endpoint = served.episode()
        with client_of(endpoint) as client:
            for read_s in (0.1, 1.0, 10.0):  # a busy server may not have come so far
                with pytest.raises(httpx2.ReadTimeout):
                    patience = httpx2.Timeout(WAIT_S, read=read_s)
                    client.post("/chat/completions", json=chat(), timeout=patience)
                if served.engine.sessions:
                    break
        assert served.engine.sessions
        assert eventually(lambda: served.engine.num_cancelled == len(served.engine.sessions))
    assert tuner.get_context_tracker().calls == []


def test_a_workflow_that_closes_its_loop_cancels_its_requests():
    with serving(HeldEngine()) as served:
        tuner, endpoint = served.episode()

        async def leave_requests_behind() -> None:
            client = httpx2.AsyncClient(trust_env=False, timeout=WAIT_S)
            url, headers = f"{endpoint.base_url}/chat/completions", {"x-api-key": endpoint.api_key}
            requests = [
                asyncio.create_task(client.post(url, json=chat(), headers=headers))
                for _ in range(3)
            ]
            while served.engine.num_running < 3:
                await asyncio.sleep(0.01)
            assert not any(request.done() for request in requests)

        thread = threading.Thread(target=lambda: asyncio.run(leave_requests_behind()))
        thread.start()
        thread.join()
        assert eventually(lambda: served.engine.num_cancelled == 3)
        served.engine.release.set()
        assert ask(endpoint).status_code == 200
    assert len(tuner.get_context_tracker().calls) == 1


def test_an_engine_that_fails_is_a_503_in_the_apis_shape():
    class Broken(HeldEngine):
        async def generate(self, *_: object, **__: object) -> None:
            raise EngineError("the engine caught fire")

    with serving(Broken()) as served:
        tuner, endpoint = served.episode()
        answer = ask(endpoint)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error")
    assert (tuner.get_context_tracker().calls, str(tuner.get_context_tracker().engine_error)) == (
        [],
        "the engine caught fire",
    )


def test_a_fault_of_our_own_is_a_500_and_takes_nobody_along():
    class Wrong(HeldEngine):
        async def generate(self, *_: object, **__: object) -> None:
            raise AssertionError("a bug")

    with serving(Wrong()) as served:
        tuner, endpoint = served.episode()
        answer = ask(endpoint)
        assert (answer.status_code, answer.json()["error"]["message"]) == (500, "internal error")
        with client_of(endpoint) as client:
            assert client.get("/models").status_code == 200
        assert eventually(lambda: served.num_present == 0)
    assert tuner.get_context_tracker().calls == []


def test_a_server_that_stops_lets_requests_end_and_takes_no_more():
    with serving(HeldEngine()) as served, ThreadPoolExecutor(2) as pool:
        tuner, endpoint = served.episode()
        with client_of(endpoint) as idle:
            assert idle.get("/models").status_code == 200
            answer = pool.submit(ask, endpoint)
            assert eventually(lambda: served.engine.num_running == 1)
            stopped = pool.submit(served.http_endpoint.close)
            assert eventually(lambda: _refuses_connections(endpoint))
            assert not stopped.done()
            served.engine.release.set()
            assert answer.result().status_code == 200
            stopped.result()
            with pytest.raises(httpx2.TransportError):
                idle.get("/models")
    assert len(tuner.get_context_tracker().calls) == 1


@pytest.mark.parametrize(("stream", "status"), [(False, 503), (True, 200)])
def test_a_server_that_stops_does_not_wait_for_ever(stream, status, caplog, monkeypatch):
    monkeypatch.setattr(http_server, "STOP_S", WAIT_S)
    with serving(HeldEngine(), drain_timeout_s=0.3) as served:
        tuner, endpoint = served.episode()
        with connect(endpoint) as connection:
            connection.sendall(request_of(endpoint, stream=stream))
            assert eventually(lambda: served.engine.num_running == 1)
            started = time.monotonic()
            served.http_endpoint.close()
            assert time.monotonic() - started < WAIT_S
            answer = receive_all(connection)
            assert (status_of(answer), b"[DONE]" in answer) == (status, False)
        assert "Traceback" not in caplog.text
        assert served.engine.num_cancelled == 1
    assert tuner.get_context_tracker().calls == []


def _refuses_connections(endpoint: object) -> bool:
    try:
        connect(endpoint).close()
    except ConnectionRefusedError:
        return True
    return False


def test_the_port_is_free_again_after_a_stop():
    with serving() as served:
        _, endpoint = served.episode()
        port = urlsplit(endpoint.base_url).port
    with serving(port=port) as served:
        _, endpoint = served.episode()
        assert urlsplit(endpoint.base_url).port == port
        assert ask(endpoint).status_code == 200
