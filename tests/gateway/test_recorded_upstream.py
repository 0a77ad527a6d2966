"""A policy behind a URL, recorded as text.

1. Requests are forwarded unchanged and recorded as text, with their timelines.
2. Rewards per call and per agent are the same as in training; there are no samples.
3. Errors reach the agent; failed requests and requests of other APIs are not recorded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ajet import Workflow
from ajet.backbone.debug.remote import open_remote
from ajet.engine.scripted import ScriptedEngine
from ajet.errors import ServiceError
from ajet.gateway.clients.openai_client import http_client
from ajet.gateway.gateway import Gateway
from ajet.gateway.recorded_upstream import RecordedUpstream, TextOnly
from ajet.gateway.request import SamplingDefaults
from ajet.schema.episode import Episode
from ajet.task_runner.episode_run import EpisodeRunner
from tests.gateway.gateway_fakes import HELLO, run
from tests.gateway.openai_server import KEY, Server, completion
from tests.unit.config_files import MINIMAL, load
from tests.unit.episode_fakes import assert_failed, attempt_of, rewarded

Say = Callable[[Any], Any]


def episode_of(server: Server, say: Say, reward: Any = 1.0) -> Episode:
    """The episode of a workflow that calls `say` with its tuner."""

    class Saying(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> Any:
            await say(tuner)
            return rewarded(reward)

    gateway = Gateway(
        chat_format=TextOnly(),
        engine=ScriptedEngine([]),
        defaults=SamplingDefaults(max_tokens=8),
        make_upstream=lambda record, name, tag: RecordedUpstream(server.model(), record, name, tag),
    )
    runner = EpisodeRunner(workflow_class=Saying, gateway=gateway)
    return run(lambda: runner.run(attempt_of()))


async def chat(tuner: Any, messages: list[Any] | None = None, **fields: Any) -> Any:
    client = tuner.as_raw_openai_sdk_client(fields.pop("agent_name", "agent"))
    return await client.chat.completions.create(model="any", messages=messages or HELLO, **fields)


def test_what_was_said_is_recorded_and_goes_on_as_it_is(server: Server) -> None:
    async def say(tuner: Any) -> None:
        await chat(tuner, temperature=0.25)
        answer = {"role": "assistant", "content": "strange"}
        await chat(tuner, [*HELLO, answer, {"role": "user", "content": "more"}])

    episode = episode_of(server, say)
    path, authorization, body = server.requests[0]
    assert (path, authorization) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert body == {"model": "gpt-x", "messages": HELLO, "temperature": 0.25}
    first, second = episode.calls
    assert first.new_timeline == "first_call"
    assert second.parent_id == first.call_id
    assert [message["content"] for message in second.messages] == ["more"]
    assert second.response["content"] == "strange"
    assert (episode.reward, episode.samples, episode.debug_calls) == (1.0, [], {})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        "<html>busy</html>",
        "",
        "null",
        "[]",
        '{"choices": []}',
        '{"choices": [{"message": null}]}',
        'data: {"choices": [{"del',
    ],
)
def test_an_answer_that_is_no_completion_is_a_fault_of_the_server(
    server: Server, answer: str, stream: bool
) -> None:
    async def say(tuner: Any) -> None:
        async for _ in await chat(tuner, stream=True):
            pass

    server.answer = answer
    episode = episode_of(server, say if stream else chat)
    assert_failed(episode, "engine_error", "gpt-x: the server's answer is no chat completion")
    assert episode.calls == []


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_stream_may_end_before_the_answer_does(server: Server, reason: str) -> None:
    async def say(tuner: Any) -> None:
        async for _ in await chat(tuner, stream=True):
            pass

    chunk = completion(
        {"index": 0, "delta": {"content": "half"}, "finish_reason": reason}, "chat.completion.chunk"
    )
    server.answer = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
    [call] = episode_of(server, say).calls
    assert (call.response["content"], call.finish_reason) == ("half", reason)


def test_numbers_of_tokens_may_be_missing(server: Server) -> None:
    message = '{"message": {"role": "assistant", "content": "yes"}, "finish_reason": null}'
    server.answer = f'{{"choices": [{message}], "usage": {{"completion_tokens": null}}}}'
    [call] = episode_of(server, chat).calls
    assert (call.response["content"], call.finish_reason) == ("yes", "stop")


def test_a_key_that_is_refused_is_named(server: Server, tmp_path: Path) -> None:
    server.status = 401
    ajet = load(tmp_path, MINIMAL, f"debug.engine={server.url}").ajet
    refused = pytest.raises(ServiceError, match="HTTP 401; expected its key .* OPENAI_API_KEY")
    with refused, open_remote(ajet):
        pass


def test_a_stream_is_recorded_as_one_message(server: Server) -> None:
    pieces = []

    async def say(tuner: Any) -> None:
        async for chunk in await chat(tuner, stream=True):
            pieces.append(chunk.choices[0].delta.content)

    episode = episode_of(server, say)
    assert episode.failure is None
    [call] = episode.calls
    assert pieces == ["strange"]
    assert (call.response["content"], call.finish_reason) == ("strange", "stop")


@pytest.mark.parametrize(
    ("reward", "expected"), [([0.0, 1.0], [0.0, 1.0]), ({"a": 0.5, "b": 0.25}, [0.5, 0.25])]
)
def test_finer_rewards_are_understood(server: Server, reward: Any, expected: Any) -> None:
    async def say(tuner: Any) -> None:
        await chat(tuner, agent_name="a")
        await chat(tuner, agent_name="b")

    episode = episode_of(server, say, reward)
    assert episode.call_rewards is not None
    assert episode.call_rewards.tolist() == expected


def test_a_reward_for_a_call_that_was_not_made_is_still_wrong(server: Server) -> None:
    failure = episode_of(server, chat, [1.0, 1.0]).failure
    assert failure is not None
    assert "a list of 2, but the episode has 1 tracked calls" in failure.message


def test_an_error_is_the_agents_and_leaves_no_call(server: Server) -> None:
    server.status = 401
    episode = episode_of(server, chat)
    assert_failed(episode, "workflow_error", "AuthenticationError")
    assert episode.calls == []


def test_messages_that_cannot_be_trained_are_refused_before_they_go_on(server: Server) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}

    async def say(tuner: Any) -> None:
        await chat(tuner, [{"role": "user", "content": [image]}])

    assert_failed(episode_of(server, say), "workflow_error", "only text is supported")
    assert server.requests == []


def test_requests_of_other_apis_go_on_unrecorded(server: Server) -> None:
    async def say(tuner: Any) -> None:
        session = tuner._open_session("agent", "default", None)
        async with http_client(session) as client:
            client.base_url = httpx2.URL("http://ajet.invalid")
            reply = await client.post("/v1/responses", json={"model": "m", "input": "hello"})
            assert reply.status_code == 200

    assert episode_of(server, say).calls == []
    assert server.requests[0][0] == "/v1/responses"
