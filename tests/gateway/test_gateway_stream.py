"""Streams of chat completions, through the genuine client.

1. A streamed answer and its record are the same as without streaming.
2. Text arrives while it is sampled, in whole characters; text that could still change is held back.
3. The end of a stream: finish reasons, usage if requested, `[DONE]`.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from ajet.engine.scripted import ScriptedEngine
from ajet.gateway import stream
from tests.gateway.gateway_fakes import (
    CALL,
    HELLO,
    TOKENIZER,
    TOOL,
    agent_of,
    collect,
    format_of,
    joined,
    run,
    stream_chunks,
)

ANSWERS = {
    "text": "Two words, π é 😀.",
    "call": f"I look.\n{CALL}",
    "two calls": f"{CALL}\n{CALL}",
    "broken call": 'So:\n<tool_call>\n{"name": \n</tool_call>',
    "json": '{"answer": 8}',
    "nothing": "",
    "marks": "a < b [1] </thin",
}


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MIN_PAUSE_S", 0.0)


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_says_and_records_what_is_answered_without_one(name: str, thinking: bool) -> None:
    text = f"<think>\nWhy? a<b\n</think>\n\n{ANSWERS[name]}" if thinking else ANSWERS[name]
    options = {"enable_thinking": thinking}
    plain, streamed = (agent_of([text], options=options, delay_s=0.01) for _ in range(2))
    answer = run(lambda: plain.chat(tools=[TOOL]))["choices"][0]
    message = joined(run(lambda: stream_chunks(streamed, tools=[TOOL])))
    assert message["content"] == (answer["message"]["content"] or "")
    assert message["reasoning_content"] == answer["message"].get("reasoning_content", "")
    assert message["finish_reason"] == answer["finish_reason"]
    calls = [
        {"index": index, **call}
        for index, call in enumerate(answer["message"].get("tool_calls", []))
    ]
    assert message["tool_calls"] == calls
    first, second = plain.tracker.calls[0], streamed.tracker.calls[0]
    assert first.response == second.response
    assert first.completion_ids.tolist() == second.completion_ids.tolist()
    assert first.logprobs.tolist() == second.logprobs.tolist()


def test_text_comes_while_it_is_sampled_and_each_character_is_whole(no_pause: None) -> None:
    agent = agent_of(["π é 😀 and more π é 😀"], delay_s=0.2)

    async def scenario() -> list[tuple[str, int]]:
        chunks = await agent.openai.chat.completions.create(
            model="policy", messages=HELLO, stream=True
        )
        return [
            (chunk.choices[0].delta.content or "", len(agent.engine.requests))
            async for chunk in chunks
        ]

    pieces = [piece for piece in run(scenario) if piece[0]]
    assert len(pieces) >= 5
    assert pieces[0][1] == 0, "the engine was not done when the first text came"
    assert not any("\ufffd" in text for text, _ in pieces)


def test_with_pauses_there_are_few_chunks_and_the_end_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "MIN_PAUSE_S", 60.0)
    agent = agent_of(["word " * 20], delay_s=0.0)

    async def scenario() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        start = loop.time()
        return len(await stream_chunks(agent)), loop.time() - start

    num_chunks, seconds = run(scenario)
    assert num_chunks <= 5
    assert seconds < stream.MIN_PAUSE_S


def test_no_text_of_a_stop_string_is_told(no_pause: None) -> None:
    agent = agent_of(["Answer: 8 STO. STOP and more"], delay_s=0.1)
    chunks = run(lambda: stream_chunks(agent, stop=["STOP"]))
    assert joined(chunks)["content"] == "Answer: 8 STO."
    assert joined(chunks)["finish_reason"] == "stop"


def test_the_order_is_role_reasoning_content_calls_finish(no_pause: None) -> None:
    text = f"<think>\nhm\n</think>\n\nI look.\n{CALL}"
    agent = agent_of([text], options={"enable_thinking": True}, delay_s=0.1)
    chunks = run(lambda: stream_chunks(agent, tools=[TOOL]))
    assert chunks[0].choices[0].delta.role == "assistant"
    kinds: list[str] = []
    for chunk in chunks[1:]:
        choice = chunk.choices[0]
        sent = choice.delta.model_dump(exclude_unset=True)
        kinds += [*sent, *(["finish"] if choice.finish_reason else [])]
    assert list(dict.fromkeys(kinds)) == ["reasoning_content", "content", "tool_calls", "finish"]
    assert all(not choice.choices[0].finish_reason for choice in chunks[:-1])


def test_usage_comes_last_and_only_if_asked_for() -> None:
    agent = agent_of(["one", "two"])
    chunks = run(lambda: stream_chunks(agent, stream_options={"include_usage": True}))
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    (request,) = agent.engine.requests
    assert chunks[-1].usage.prompt_tokens == len(request.prompt_ids)
    assert chunks[-1].usage.completion_tokens == len(b"one") + 1
    assert all(chunk.usage is None for chunk in run(lambda: stream_chunks(agent)))


def test_a_stream_ends_in_done() -> None:
    agent = agent_of(["one"])

    async def scenario() -> list[bytes]:
        body = {"messages": HELLO, "stream": True}
        reply = await agent.post("/v1/chat/completions", body)
        assert reply.headers["content-type"] == "text/event-stream"
        return await collect(reply.events)

    events = run(scenario)
    assert events[-1] == b"data: [DONE]\n\n"
    assert all(event.startswith(b"data: {") and event.endswith(b"}\n\n") for event in events[:-1])


def test_several_choices_are_streamed_at_once_and_recorded_each() -> None:
    agent = agent_of(["first", "second", "third"], delay_s=0.02)
    chunks = run(lambda: stream_chunks(agent, n=3))
    assert {joined(chunks, index)["content"] for index in range(3)} == {"first", "second", "third"}
    assert len(agent.tracker.calls) == 3


def test_logprobs_of_a_stream_are_those_without_one() -> None:
    plain, streamed = (agent_of(["Six."], delay_s=0.01) for _ in range(2))
    answer = run(lambda: plain.chat(logprobs=True))["choices"][0]
    chunks = run(lambda: stream_chunks(streamed, logprobs=True))
    tokens = [
        token.model_dump()
        for chunk in chunks
        for choice in chunk.choices
        if choice.logprobs
        for token in choice.logprobs.content
    ]
    assert tokens == answer["logprobs"]["content"]
    assert len(tokens) == len(b"Six.") + 1


async def turns_of_the_loop() -> None:
    """Some, in which a reader that was woken reads."""
    for _ in range(5):
        await asyncio.sleep(0)


class ThreadedEngine(ScriptedEngine):
    """Reports its tokens from its own thread, as engines do."""

    async def generate(self, *args: Any, on_token: Any, **options: Any) -> Any:
        generation = await super().generate(*args, **options)
        loop = asyncio.get_running_loop()

        def tell() -> None:
            for token, logprob in zip(generation.token_ids, generation.logprobs, strict=True):
                on_token(token, logprob)
                # On a busy machine, the reader would find many tokens at once.
                asyncio.run_coroutine_threadsafe(turns_of_the_loop(), loop).result(60)

        await asyncio.to_thread(tell)
        return generation


def test_tokens_come_from_a_thread_of_the_engines(no_pause: None) -> None:
    text = "an answer π from a thread"
    stop_id = format_of("qwen3").stop_token_ids[0]
    agent = agent_of([], engine=ThreadedEngine.from_texts(TOKENIZER, [text], stop_id))
    chunks = run(lambda: stream_chunks(agent))
    assert joined(chunks)["content"] == text
    assert len(chunks) > 5


def test_a_slow_reader_gets_everything(no_pause: None) -> None:
    agent = agent_of(["word " * 30], delay_s=0.05)

    async def scenario() -> str:
        text = ""
        async for chunk in await agent.openai.chat.completions.create(
            model="policy", messages=HELLO, stream=True
        ):
            await asyncio.sleep(0.02)
            text += chunk.choices[0].delta.content or ""
        return text

    assert run(scenario) == ("word " * 30).strip()


def test_events_are_lines_for_any_client() -> None:
    agent = agent_of(["one\u2028two\x85three"])
    body = {"messages": HELLO, "stream": True}

    async def scenario() -> list[bytes]:
        return await collect((await agent.post("/v1/chat/completions", body)).events)

    assert all(len(event.decode().splitlines()) == 2 for event in run(scenario))


def test_what_is_refused_is_no_stream() -> None:
    agent = agent_of(["unasked"])
    body = {"messages": [], "stream": True}
    reply = run(lambda: agent.post("/v1/chat/completions", body))
    assert reply.status == 400
    assert json.loads(reply.body)["error"]["param"] == "messages"
