"""Streams that end early.

1. A reader that leaves, in any way, cancels the request.
2. An engine error, a deadline and the end of the episode become an error event.
3. None of them leaves a trace in the record.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai import APIError

from ajet.engine.scripted import ScriptedEngine
from ajet.errors import EngineError
from ajet.gateway import stream
from tests.gateway.gateway_fakes import (
    HELLO,
    TOKENIZER,
    Agent,
    agent_of,
    collect,
    format_of,
    only_this_task_is_left,
    run,
    stream_chunks,
)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MIN_PAUSE_S", 0.0)


def test_closing_a_stream_cancels_the_request_and_leaves_no_trace(no_pause: None) -> None:
    agent = agent_of(["a long answer " * 20], delay_s=30.0)

    async def scenario() -> bool:
        async with await agent.openai.chat.completions.create(
            model="policy", messages=HELLO, stream=True
        ) as chunks:
            async for chunk in chunks:
                if chunk.choices[0].delta.content:
                    break
        return await only_this_task_is_left()

    assert run(scenario), "a task of the request still runs"
    assert agent.engine.requests == []
    assert agent.tracker.calls == []


def test_a_stream_that_is_dropped_cancels_the_request_as_well(no_pause: None) -> None:
    agent = agent_of(["a long answer " * 20], delay_s=30.0)

    async def scenario() -> bool:
        async for _ in await agent.openai.chat.completions.create(
            model="policy", messages=HELLO, stream=True
        ):
            break
        return await only_this_task_is_left()

    assert run(scenario)
    assert agent.tracker.calls == []


def test_a_cancelled_reader_cancels_the_request(no_pause: None) -> None:
    agent = agent_of(["a long answer " * 20], delay_s=30.0)

    async def scenario() -> bool:
        reading = asyncio.create_task(stream_chunks(agent))
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return await only_this_task_is_left()

    assert run(scenario)
    assert agent.tracker.calls == []


class FaultyEngine(ScriptedEngine):
    """Gives a few tokens, then fails."""

    async def generate(self, prompt_ids: Any, params: Any, *, session: str, on_token: Any) -> Any:
        for token in TOKENIZER.encode("Let me "):
            on_token(token, -1.0)
        await asyncio.sleep(0.02)
        raise EngineError("the engine caught fire")


def test_a_fault_in_mid_stream_is_an_error_event_and_leaves_no_trace(no_pause: None) -> None:
    agent = agent_of([], engine=FaultyEngine([]))
    with pytest.raises(APIError, match="caught fire") as caught:
        run(lambda: stream_chunks(agent))
    assert caught.value.body["code"] == "engine_error"  # type: ignore[index]
    assert agent.tracker.calls == []
    assert isinstance(agent.record.engine_error, EngineError)


def test_a_stream_has_its_deadline() -> None:
    agent = agent_of(["too late"], delay_s=600.0, call_timeout_s=0.05)
    with pytest.raises(APIError, match=r"no answer within 0.05 s .rollout.call_timeout_s."):
        run(lambda: stream_chunks(agent))
    assert agent.tracker.calls == []


def test_one_failed_choice_leaves_no_trace_of_the_others() -> None:
    num_calls = 0

    def script(*_: object) -> list[int]:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 2:
            raise EngineError("the engine caught fire")
        return [*b"fine", format_of("qwen3").stop_token_ids[0]]

    for streaming in (False, True):
        num_calls = 0
        agent = agent_of([], engine=ScriptedEngine(script))
        body = {"messages": HELLO, "n": 3, "stream": streaming}

        async def scenario(agent: Agent = agent, body: Any = body) -> bytes:
            reply = await agent.post("/v1/chat/completions", body)
            return b"".join(await collect(reply.events)) if reply.events else reply.body

        assert b"caught fire" in run(scenario)
        assert agent.tracker.calls == []


def test_an_episode_that_ends_in_mid_stream_records_nothing(no_pause: None) -> None:
    agent = agent_of(["an answer"], delay_s=0.5)

    async def scenario() -> None:
        agent_stream = await agent.openai.chat.completions.create(
            model="policy", messages=HELLO, stream=True
        )
        async for chunk in agent_stream:
            if chunk.choices[0].delta.content:
                agent.session.closed = True

    with pytest.raises(APIError, match="this episode is over"):
        run(scenario)
    assert agent.tracker.calls == []


def test_tokens_may_come_from_a_thread_after_the_readers_loop_was_closed() -> None:
    async def make() -> stream.StreamNotifier:
        return stream.StreamNotifier()

    asyncio.run(make()).notify()
