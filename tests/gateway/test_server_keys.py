"""A key gives access to one agent of one episode, until the episode ends. It is never shown."""

from __future__ import annotations

import logging

import httpx2
import pytest

from ajet.gateway.clients.http_endpoint import BaseUrlAndApiKey
from tests.gateway.server_fakes import (
    ANSWER,
    WAIT_S,
    HeldEngine,
    ask,
    chat,
    client_of,
    connect,
    eventually,
    head_of,
    receive_all,
    serving,
)


def with_headers(endpoint: BaseUrlAndApiKey, *headers: tuple[str, str]) -> httpx2.Response:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    with httpx2.Client(trust_env=False, timeout=WAIT_S) as client:
        return client.post(f"{endpoint.base_url}/chat/completions", json=chat(), headers=raw)


def assert_refused(answer: httpx2.Response) -> None:
    assert answer.status_code == 401
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_each_key_leads_to_its_own_episode():
    with serving() as served:
        (first, first_end), (second, second_end) = served.episode("one"), served.episode("two")
        assert ask(first_end).json()["choices"][0]["message"]["content"] == ANSWER
        ask(second_end)
        ask(second_end, "5 + 3?")
    assert (len(first.get_context_tracker().calls), len(second.get_context_tracker().calls)) == (
        1,
        2,
    )
    assert served.engine.sessions == ["one", "two", "two"]


def test_each_key_leads_to_its_own_agent():
    with serving() as served:
        tuner, writer = served.episode()
        critic = tuner.as_oai_baseurl_apikey("critic", target_tag="critic")
        ask(writer)
        ask(critic)
    assert [call.agent_name for call in tuner.get_context_tracker().calls] == ["agent", "critic"]


@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "x-api-key: {}"])
def test_both_headers_carry_the_key(header):
    name, value = header.split(": ")
    with serving() as served:
        _, endpoint = served.episode()
        answer = with_headers(endpoint, (name, value.format(endpoint.api_key)))
    assert answer.status_code == 200


def test_a_key_dies_with_its_episode_and_no_other():
    with serving() as served:
        (first, first_end), (_, second_end) = served.episode("one"), served.episode("two")
        with client_of(first_end) as client:
            assert client.get("/models").status_code == 200
            first.close()
            assert_refused(client.get("/models"))
        assert_refused(ask(first_end))
        assert ask(second_end).status_code == 200
    assert first.get_context_tracker().calls == []


def test_without_a_valid_key_nothing_is_done():
    with serving() as served:
        tuner, endpoint = served.episode()
        key = endpoint.api_key
        for headers in (
            [],
            [("Authorization", "Bearer")],
            [("Authorization", f"Bearer {key}x")],
            [("Authorization", f"Bearer {key[:-1]}")],
            [("Authorization", f"Bearer {key.lower()}")],
            [("Authorization", f"Basic {key}")],
            [("x-api-key", "http://127.0.0.1:1/")],
            [("x-api-key", "\u00e9")],
            [("Authorization", f"Bearer {key}"), ("x-api-key", "another")],
            [("Authorization", f"Bearer {key}"), ("Authorization", "Bearer another")],
        ):
            assert_refused(with_headers(endpoint, *headers))
        assert (tuner.get_context_tracker().calls, served.engine.sessions) == ([], [])
        assert with_headers(endpoint, ("Authorization", f"Bearer {key}")).status_code == 200


def test_keys_are_long_and_never_the_same():
    with serving() as served:
        tuner, _ = served.episode()
        keys = {tuner.as_oai_baseurl_apikey().api_key for _ in range(100)}
    assert len(keys) == 100
    assert min(map(len, keys)) >= 43, "256 bits in base 64"


def test_a_key_is_in_no_log(caplog):
    caplog.set_level(logging.DEBUG)
    with serving(HeldEngine()) as served:
        tuner, endpoint = served.episode()
        logging.getLogger("test").warning("%r %s", endpoint, endpoint)
        with connect(endpoint) as broken:
            broken.sendall(head_of(endpoint, "Broken Header"))
            receive_all(broken)
        assert ask(endpoint, temperature="hot").status_code == 400
        with connect(endpoint) as leaving:
            leaving.sendall(head_of(endpoint, length=5) + b"{}   ")
        tuner.close()
        assert_refused(ask(endpoint))
    assert "ajet" in caplog.text, "there is a log to look at"
    assert endpoint.api_key not in caplog.text
    assert endpoint.api_key.removeprefix("ajet-")[:12] not in caplog.text


def test_the_end_of_an_episode_cancels_its_requests():
    with serving(HeldEngine()) as served:
        tuner, endpoint = served.episode()
        with connect(endpoint) as connection:
            body = b'{"messages": [{"role": "user", "content": "hi"}]}'
            connection.sendall(head_of(endpoint, "Connection: close", length=len(body)) + body)
            assert eventually(lambda: served.engine.num_running == 1)
            tuner.close()
            answer = receive_all(connection)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert eventually(lambda: served.engine.num_cancelled == 1)
    assert tuner.get_context_tracker().calls == []
