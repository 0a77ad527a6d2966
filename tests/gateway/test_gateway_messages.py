"""Messages in every shape that clients send.

1. Messages with the same meaning render to the same prompt, and their history is recognised.
2. A message that no text model takes, or that the chat format cannot render, is a 400 that names
   it, never an exception.
3. The name of a speaker reaches a chat format that writes it. A name that a client adds to an
   answer changes nothing: the history is recognised.
4. Reasoning is returned in a field of its own; the timeline continues if a client leaves it out.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway.gateway_fakes import HELLO, TOOL, Agent, agent_of, run
from tests.property.random_agents import FORMATS

ASK = {"role": "user", "content": "q"}
USE = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"what":1}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [USE]}
KIMI: dict[str, Any] = {"form": "kimi-k2.5", "options": {"thinking": False}}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "open"}


def prompt_of(messages: list[dict[str, Any]]) -> str:
    agent = agent_of(["fine"])
    answer = run(lambda: agent.chat(messages=messages, tools=[TOOL]))
    assert "error" not in answer, answer
    return agent.prompts[0]


def text(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([{**ASK, "content": text("a", "b")}], [{**ASK, "content": "ab"}]),
        ([ASK, CALLED, {**RESULT, "content": text("open")}], [ASK, CALLED, RESULT]),
        ([ASK, {**CALLED, "content": ""}, RESULT], [ASK, CALLED, RESULT]),
        ([ASK, {**CALLED, "content": []}, RESULT], [ASK, CALLED, RESULT]),
        ([ASK, {"role": "assistant", "tool_calls": [USE]}, RESULT], [ASK, CALLED, RESULT]),
        ([{**ASK, "name": "bob"}], [ASK]),
        ([{"role": "developer", "content": "s"}, ASK], [{"role": "system", "content": "s"}, ASK]),
        (
            [ASK, {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, ASK],
            [ASK, {"role": "assistant", "content": "no"}, ASK],
        ),
        (
            [ASK, {"role": "assistant", "content": None, "refusal": "no"}, ASK],
            [ASK, {"role": "assistant", "content": "no"}, ASK],
        ),
        (
            [ASK, CALLED, {"role": "function", "name": "look", "content": "open"}],
            [ASK, CALLED, {"role": "tool", "name": "look", "content": "open"}],
        ),
    ],
)
def test_what_means_the_same_is_the_same(one: list[Any], other: list[Any]) -> None:
    assert prompt_of(one) == prompt_of(other)


def test_a_chat_format_that_writes_the_names_of_speakers_gets_them() -> None:
    """Kimi K2.5 writes a name in place of the role."""
    agent = agent_of(["fine", "good"], **KIMI)
    asked = [{"role": "system", "name": "boss", "content": "s"}, {**ASK, "name": "bob"}]
    answer = run(lambda: agent.chat(messages=asked))["choices"][0]["message"]
    more = [*asked, {**answer, "name": "Friday"}, {**ASK, "name": "eve"}]
    run(lambda: agent.chat(messages=more))
    first, second = agent.prompts
    assert "<|im_system|>boss<|im_middle|>s" in first
    assert "<|im_user|>bob<|im_middle|>q" in first
    assert second.startswith(first)
    assert "<|im_user|>eve<|im_middle|>q" in second
    assert agent.timelines == ["first_call", None]


def test_the_same_words_of_another_speaker_are_another_history() -> None:
    agent = agent_of(["fine", "good"], **KIMI)
    for name in ("bob", "eve"):
        run(lambda name=name: agent.chat(messages=[{**ASK, "name": name}, ASK]))  # type: ignore[misc]
    assert "<|im_user|>eve<|im_middle|>" in agent.prompts[1]


@pytest.mark.parametrize(("form", "options"), FORMATS)
@pytest.mark.parametrize(
    "messages",
    [
        [ASK],
        [{**ASK, "content": ""}],
        [{"role": "system", "content": "s"}],
        [{"role": "system", "content": "s"}, {"role": "system", "content": "t"}, ASK],
        [ASK, {"role": "system", "content": "in the middle"}, ASK],
        [ASK, ASK],
        [ASK, {"role": "assistant", "content": "last"}],
        [{"role": "assistant", "content": "first"}, ASK],
        [ASK, RESULT],
        [ASK, CALLED, RESULT, RESULT],
        [ASK, {**CALLED, "tool_calls": [{"function": {"name": "look"}}]}, {"role": "tool"}],
        [ASK, {**CALLED, "tool_calls": [{"function": {"name": "x", "arguments": "[1"}}]}, RESULT],
        [ASK, {**CALLED, "tool_calls": [{"function": {"name": "x", "arguments": "[1]"}}]}, RESULT],
        [ASK, {"role": "assistant", "content": "a", "reasoning_content": "r"}, ASK],
    ],
)
def test_any_order_is_answered_or_refused_in_any_format(
    messages: list[Any], form: str, options: dict[str, Any]
) -> None:
    agent = agent_of(["fine"], form=form, options=options)
    answer = run(lambda: agent.chat(messages=messages, tools=[TOOL]))
    if "error" in answer:
        assert "chat format cannot render them" in answer["error"]["message"]
    assert len(agent.tracker.calls) == ("error" not in answer)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "robot", "content": "x"}, "messages[0].role"),
        ({"role": ["user"], "content": "x"}, "messages[0].role"),
        ({"content": "x"}, "messages[0].role"),
        ({**ASK, "content": 5}, "messages[0].content"),
        ({**ASK, "content": [5]}, "messages[0].content"),
        ({**ASK, "content": [{"type": "image_url", "image_url": {}}]}, "messages[0].content"),
        ({**ASK, "content": [{"type": "text", "text": None}]}, "messages[0].content"),
        ({**CALLED, "tool_calls": 5}, "messages[0].tool_calls"),
        ({**CALLED, "tool_calls": [5]}, "messages[0].tool_calls"),
        ({**CALLED, "tool_calls": [{"function": {}}]}, "messages[0].tool_calls"),
        ({**CALLED, "tool_calls": [{**USE, "id": {"x": 1}}]}, "messages[0].tool_calls.id"),
        ({**RESULT, "tool_call_id": {"x": 1}}, "messages[0].tool_call_id"),
        ({**RESULT, "name": {"x": 1}}, "messages[0].name"),
        ({**ASK, "reasoning_content": {"x": 1}}, "messages[0].reasoning_content"),
    ],
)
def test_what_no_text_model_takes_is_refused_by_its_place(message: Any, param: str) -> None:
    agent = agent_of(["unasked"])
    error = run(lambda: agent.chat(messages=[message]))["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert agent.engine.requests == []


@pytest.mark.parametrize(
    "said",
    [
        '<tool_call>{"name": "look", "arguments": {"what": "\\ud800"}}</tool_call>',
        '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>',
        f"<tool_call>{'[' * 20_000}</tool_call>",
        "<tool_call></tool_call></think><think><|im_start|>",
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_whatever_the_model_says_can_be_told(said: str, streaming: bool) -> None:
    agent = agent_of([said, "fine"])
    body = {"messages": HELLO, "stream": streaming, "max_tokens": 30_000}

    async def scenario() -> None:
        reply = await agent.post("/v1/chat/completions", body)
        assert reply.status == 200
        if reply.events is not None:
            assert b"error" not in b"".join([event async for event in reply.events])

    agent.engine.max_model_len = 1 << 17
    run(scenario)
    (call,) = agent.tracker.calls
    json.dumps(call.response, ensure_ascii=False).encode()


THOUGHTS = ["<think>\nA door?\n</think>\n\nWhich one?", "<think>\nOh.\n</think>\n\nOpen."]


def play(agent: Agent, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Send two requests; the second returns only `keys` of the first answer."""

    async def scenario() -> list[dict[str, Any]]:
        first = (await agent.chat())["choices"][0]["message"]
        kept = {key: first[key] for key in keys}
        second = await agent.chat(messages=[*HELLO, kept, ASK])
        return [first, second["choices"][0]["message"]]

    return run(scenario)


def test_reasoning_has_a_field_of_its_own() -> None:
    first, second = play(agent_of(THOUGHTS, options={"enable_thinking": True}), ("role", "content"))
    assert (first["reasoning_content"], first["content"]) == ("A door?", "Which one?")
    assert (second["reasoning_content"], second["content"]) == ("Oh.", "Open.")


def test_a_turn_that_is_cut_while_it_thinks_has_no_content() -> None:
    agent = agent_of(THOUGHTS, options={"enable_thinking": True})
    choice = run(lambda: agent.chat(max_tokens=6))["choices"][0]
    assert choice["message"]["reasoning_content"] == "A do"
    assert choice["message"]["content"] == ""
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize("keys", [("role", "content"), ("role", "content", "reasoning_content")])
def test_a_timeline_continues_whether_or_not_reasoning_comes_back(keys: tuple[str, ...]) -> None:
    agent = agent_of(THOUGHTS, options={"enable_thinking": True, "thinking_retention": "all"})
    play(agent, keys)
    assert agent.timelines == ["first_call", None]
    assert "A door?" in agent.prompts[1]


def test_a_format_that_drops_earlier_thinking_starts_a_timeline_and_says_why() -> None:
    agent = agent_of(THOUGHTS, options={"enable_thinking": True})
    play(agent, ("role", "content"))
    assert agent.timelines == ["first_call", "template_rewrote_history"]
