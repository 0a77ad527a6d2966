"""Limits on size, time and number per client; nothing of a refused request is kept."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from urllib.parse import urlsplit

import pytest

from tests.gateway.server_fakes import (
    ANSWER_IDS,
    HeldEngine,
    ask,
    chat,
    client_of,
    connect,
    eventually,
    head_of,
    receive_all,
    receive_answer,
    request_of,
    serving,
    slow_reader,
    status_of,
)


def assert_too_large(answer, tuner):
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert tuner.get_context_tracker().calls == []


def test_a_body_over_the_limit_is_refused_and_one_below_is_not():
    with serving(max_request_bytes=10_000) as served:
        tuner, endpoint = served.episode()
        assert_too_large(ask(endpoint, "x" * 10_000), tuner)
        assert ask(endpoint, "x" * 9_000).status_code == 200


@pytest.mark.parametrize("size", [10_000, 1_000_000, 30_000_000])
def test_a_client_that_sends_too_much_learns_why(size):
    """Also where it sends more than fits into the system's buffers before it reads."""
    with serving(max_request_bytes=1000) as served:
        tuner, endpoint = served.episode()
        with client_of(endpoint) as client:
            assert_too_large(client.post("/chat/completions", content=b"x" * size), tuner)
            chunks = (b"x" * 1000 for _ in range(size // 1000))
            assert_too_large(client.post("/chat/completions", content=chunks), tuner)
            assert client.get("/models").status_code == 200


def test_a_body_that_is_too_large_by_its_head_is_not_waited_for():
    with serving(max_request_bytes=1000) as served:
        _, endpoint = served.episode()
        with connect(endpoint) as connection:
            connection.sendall(head_of(endpoint, length=10**12))
            assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_asks_first_is_told_before_it_sends():
    with serving(max_request_bytes=1000) as served:
        _, endpoint = served.episode()
        with connect(endpoint) as connection:
            connection.sendall(head_of(endpoint, "Expect: 100-continue", length=1001))
            assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_what_a_stranger_sends_is_thrown_away():
    with serving() as served:
        tuner, endpoint = served.episode()
        tuner.close()
        with client_of(endpoint) as client:
            for _ in range(2):  # the connection stays of use
                answer = client.post("/chat/completions", content=b"x" * 5_000_000)
                assert answer.status_code == 401
        with connect(endpoint) as connection:
            connection.sendall(head_of(endpoint, "Transfer-Encoding: chunked"))
            assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("shape", ["one header", "many headers", "a path", "no end"])
def test_a_head_over_the_limit_is_refused(shape):
    with serving(max_header_bytes=2000) as served:
        tuner, endpoint = served.episode()
        heads = {
            "one header": head_of(endpoint, f"X: {'x' * 2000}", length=0),
            "many headers": head_of(endpoint, *(f"X-{i}: x" for i in range(300)), length=0),
            "a path": head_of(endpoint, line=f"GET /v1/models?{'x' * 2000} HTTP/1.1"),
            "no end": head_of(endpoint, f"X: {'x' * 3000}")[:-4],
        }
        with connect(endpoint) as connection:
            connection.sendall(heads[shape])
            answer = receive_all(connection)
        assert status_of(answer) == 431
        assert b'"error": {"message": ' in answer
    assert tuner.get_context_tracker().calls == []


def test_framing_without_end_is_not_read_on_and_on():
    """A chunk's extension, which is neither head nor body."""
    with serving(max_request_bytes=10_000, max_header_bytes=1000) as served:
        _, endpoint = served.episode()
        with connect(endpoint) as connection:
            connection.sendall(head_of(endpoint, "Transfer-Encoding: chunked") + b"1;")
            with pytest.raises(OSError):
                for _ in range(10_000):
                    connection.sendall(b"x" * 1000)


@pytest.mark.parametrize("start", [b"", b"POST /v1/chat", b"\r\n" * 20])
def test_a_head_that_does_not_come_ends_the_connection(start):
    with serving(read_timeout_s=0.2) as served:
        _, endpoint = served.episode()
        with connect(endpoint) as connection:
            with contextlib.suppress(OSError):  # its time may be over before it is sent
                connection.sendall(start)
            assert receive_all(connection) == b""


def test_a_head_that_trickles_ends_the_connection():
    with serving(read_timeout_s=0.3) as served:
        _, endpoint = served.episode()
        started = time.monotonic()
        with connect(endpoint) as connection, pytest.raises(OSError):
            for byte in head_of(endpoint, f"X: {'x' * 2000}"):
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - started < 20  # all of it would take 40 s


def test_a_body_that_does_not_come_is_not_waited_for():
    with serving(read_timeout_s=1.0) as served:  # in which its head has to come
        tuner, endpoint = served.episode()
        with connect(endpoint) as connection:
            connection.sendall(head_of(endpoint, "Connection: close", length=100) + b"{")
            assert status_of(receive_all(connection)) == 408
    assert tuner.get_context_tracker().calls == []


def test_a_kept_connection_answers_without_delay():
    """A client that writes head and body apart meets a server that does: 40 ms, if they wait."""
    with serving() as served:
        _, endpoint = served.episode()
        connection = http.client.HTTPConnection(urlsplit(endpoint.base_url).netloc)
        seconds = []
        for _ in range(40):
            started = time.monotonic()
            headers = {"x-api-key": endpoint.api_key}
            connection.request("POST", "/v1/chat/completions", json.dumps(chat()), headers)
            assert json.load(connection.getresponse())["object"] == "chat.completion"
            seconds.append(time.monotonic() - started)
        connection.close()
    # A busy machine slows some of them. If the two waited, none would be faster but the first ones,
    # which the system acknowledges at once.
    assert min(seconds[20:]) < 0.03


def test_an_idle_connection_is_closed():
    with serving(keep_alive_s=0.2) as served:
        _, endpoint = served.episode()
        with connect(endpoint) as connection:
            connection.sendall(request_of(endpoint))
            assert status_of(receive_answer(connection)) == 200
            assert receive_all(connection) == b""


def test_a_new_connection_takes_the_place_of_the_one_that_was_idle_longest():
    with serving(max_connections=3) as served:
        _, endpoint = served.episode()
        connections = [connect(endpoint) for _ in range(3)]
        for connection in (connections[1], connections[0], connections[2]):
            connection.sendall(request_of(endpoint))
            assert status_of(receive_answer(connection)) == 200
        assert ask(endpoint).status_code == 200
        assert receive_all(connections[1]) == b""
        connections[0].sendall(request_of(endpoint))
        assert status_of(receive_answer(connections[0])) == 200
        for connection in connections:
            connection.close()


def test_a_connection_at_work_does_not_give_way():
    with serving(HeldEngine(), max_connections=1) as served:
        _, endpoint = served.episode()
        with connect(endpoint) as first:
            first.sendall(request_of(endpoint))
            assert eventually(lambda: served.engine.num_running == 1)
            with connect(endpoint) as second:
                assert receive_all(second) == b""
            served.engine.release.set()
            assert status_of(receive_answer(first)) == 200


def test_a_client_that_never_reads_is_cut_off():
    engine = HeldEngine(held=False, answer_ids=ANSWER_IDS[:-1] * 1000)
    with serving(engine, send_timeout_s=0.3) as served:
        _, endpoint = served.episode()
        with slow_reader(served, endpoint) as connection:
            connection.sendall(request_of(endpoint, logprobs=True))
            assert eventually(lambda: engine.sessions)
            assert eventually(lambda: not served.connections)
            assert b"content-length: 2" in connection.recv(1000), "hundreds of kB"
            assert len(receive_all(connection)) < 50_000


def test_chat_reads_what_the_limits_leave():
    """The control for this file: with every limit low, an ordinary request passes."""
    limits = {"max_header_bytes": 500, "max_request_bytes": 500, "max_connections": 1}
    with serving(**limits, read_timeout_s=5.0, send_timeout_s=5.0) as served:
        _, endpoint = served.episode()
        with client_of(endpoint) as client:
            for _ in range(3):
                assert client.post("/chat/completions", json=chat()).status_code == 200
