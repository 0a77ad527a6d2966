"""Answers piece by piece: as the engine makes them, and no faster than they are read."""

from __future__ import annotations

import asyncio
import json

import httpx2
import pytest

from tests.gateway.server_fakes import (
    ANSWER,
    ANSWER_IDS,
    HeldEngine,
    chat,
    client_of,
    eventually,
    receive_all,
    request_of,
    serving,
    slow_reader,
)


def content_of(lines: list[str]) -> str:
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_what_the_engine_has_made_arrives_before_the_rest_is_there():
    with serving(HeldEngine(num_first=2)) as served:
        tuner, endpoint = served.episode()
        with (
            client_of(endpoint) as client,
            client.stream("POST", "/chat/completions", json=chat(stream=True)) as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            received = []
            while not content_of(received):
                received.append(next(lines))
            assert served.engine.num_running == 1
            assert tuner.get_context_tracker().calls == []
            served.engine.release.set()
            received += lines
        assert content_of(received) == ANSWER
        assert [line for line in received if line][-1] == "data: [DONE]"
    assert len(tuner.get_context_tracker().calls) == 1


@pytest.mark.parametrize("path", ["/responses", "/messages"])
def test_the_other_apis_stream_too(path):
    body = {"input": "4 + 4?"} if path == "/responses" else {**chat(), "max_tokens": 9}
    with serving() as served:
        tuner, endpoint = served.episode()
        with client_of(endpoint) as client:
            answer = client.post(path, json={**body, "stream": True})
    assert (answer.status_code, ANSWER in answer.text) == (200, True)
    assert len(tuner.get_context_tracker().calls) == 1


def test_the_end_of_the_episode_cuts_the_stream():
    with serving(HeldEngine(num_first=2)) as served:
        tuner, endpoint = served.episode()
        with (
            client_of(endpoint) as client,
            client.stream("POST", "/chat/completions", json=chat(stream=True)) as answer,
            pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)),
        ):
            for line in answer.iter_lines():
                if content_of([line]):
                    tuner.close()
        assert eventually(lambda: served.engine.num_cancelled == 1)
    assert tuner.get_context_tracker().calls == []


LONG = [*ANSWER_IDS[:-1] * 2000, ANSWER_IDS[-1]]


class EndlessEngine(HeldEngine):
    """Gives tokens until it is cancelled."""

    async def generate(self, prompt_ids, params, *, session, on_token=None):
        try:
            while True:
                self._give(on_token, 0, len(self.answer_ids))
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise


def test_a_reader_that_stops_is_cut_off_and_its_place_is_free():
    engine = EndlessEngine(answer_ids=ANSWER_IDS[:-1])
    with serving(engine, send_timeout_s=0.3, max_concurrent_requests=1) as served:
        tuner, endpoint = served.episode()
        with slow_reader(served, endpoint) as connection:
            connection.sendall(request_of(endpoint, stream=True, logprobs=True))
            assert eventually(lambda: engine.num_cancelled == 1)
            assert eventually(lambda: not served.connections)
            assert receive_all(connection).startswith(b"HTTP/1.1 200 ")
        assert eventually(lambda: served.num_present == 0)
    assert tuner.get_context_tracker().calls == []


def test_a_slow_reader_gets_everything_and_little_is_kept_for_it():
    with serving(HeldEngine(held=False, answer_ids=LONG)) as served:
        _, endpoint = served.episode()
        with slow_reader(served, endpoint) as connection:
            connection.sendall(request_of(endpoint, stream=True, n=30))
            received, most_kept = b"", 0
            while b"data: [DONE]" not in received:
                received += connection.recv(20_000)
                for other in list(served.connections):
                    most_kept = max(most_kept, other.transport.get_write_buffer_size())
        assert len(received) > 300_000
        assert most_kept < 200_000
