"""Anthropic's Messages API, through its genuine client.

1. Its requests become the gateway's own: same prompts, same records, same timelines.
2. Events come in the API's order and add up to the message.
3. If the last message is the assistant's, the answer continues it.
4. Errors have the API's shape and types; a parameter that cannot be honoured is refused by name.
"""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from anthropic.types import Message

from ajet.engine.scripted import ScriptedEngine
from ajet.errors import EngineError
from tests.gateway.gateway_fakes import (
    CALL,
    HELLO,
    LOOK,
    TOOL,
    Agent,
    agent_of,
    collect,
    only_this_task_is_left,
    run,
)

LOOK_TOOL = {
    "name": LOOK["name"],
    "description": LOOK["description"],
    "input_schema": LOOK["parameters"],
}
THINKING = {"enable_thinking": True, "thinking_retention": "all"}
THOUGHTFUL = [f"<think>\nhm\n</think>\n\nI look.\n{CALL}", "<think>\nso\n</think>\n\nOpen."]
USER: list[Any] = [{"role": "user", "content": "hello"}]


def create(agent: Agent, **body: Any) -> Message:
    body = {"max_tokens": 300, "messages": USER, **body}
    message: Message = run(lambda: agent.anthropic.messages.create(model="policy", **body))
    return message


def events_of(agent: Agent, **body: Any) -> list[Any]:
    body = {"max_tokens": 300, "messages": USER, **body}

    async def scenario() -> list[Any]:
        return await collect(
            await agent.anthropic.messages.create(model="policy", stream=True, **body)
        )

    return run(scenario)


def test_text_in_text_out_with_true_usage() -> None:
    agent = agent_of(["Hi there."])
    sampling = {"temperature": 0.5, "top_k": 3, "top_p": 0.9}
    message = create(agent, system="Be brief.", extra_body=sampling)
    (block,) = message.content
    assert block.type == "text"
    assert block.text == "Hi there."
    assert (message.role, message.stop_reason) == ("assistant", "end_turn")
    (request,) = agent.engine.requests
    assert message.usage.input_tokens == len(request.prompt_ids)
    assert message.usage.output_tokens == len(b"Hi there.") + 1
    params = request.params
    assert (params.temperature, params.top_k, params.top_p) == (0.5, 3, 0.9)


def test_a_request_is_the_same_in_both_apis() -> None:
    agent = agent_of(["a", "b"])
    blocks: Any = [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]
    create(agent, system=blocks, tools=[LOOK_TOOL], stop_sequences=["END"])
    messages = [{"role": "system", "content": "Be brief."}, *HELLO]
    run(lambda: agent.chat(messages=messages, tools=[TOOL], max_tokens=300, stop=["END"]))
    assert agent.prompts[0] == agent.prompts[1]
    first, second = (request.params for request in agent.engine.requests)
    assert (first.max_tokens, first.stop) == (second.max_tokens, second.stop) == (300, ("END",))


def tool_loop(agent: Agent, *texts: str) -> list[Message]:
    """Ask, run the tools, send everything back."""
    first = create(agent, tools=[LOOK_TOOL])
    results = [
        {
            "type": "tool_result",
            "tool_use_id": block.id,
            "content": [{"type": "text", "text": "open"}],
        }
        for block in first.content
        if block.type == "tool_use"
    ]
    said = [{"type": "text", "text": text} for text in texts]
    history = [
        *USER,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [*results, *said]},
    ]
    return [first, create(agent, messages=history, tools=[LOOK_TOOL])]


def test_a_tool_loop_is_one_timeline() -> None:
    agent = agent_of([f"I look.\n{CALL}\n{CALL}", "Open."])
    first, second = tool_loop(agent, "So?")
    assert [block.type for block in first.content] == ["text", "tool_use", "tool_use"]
    assert first.stop_reason == "tool_use"
    assert first.content[1].input == {"what": "door"}  # type: ignore[union-attr]
    assert second.content[0].text == "Open."  # type: ignore[union-attr]
    assert agent.timelines == ["first_call", None]
    assert agent.prompts[1].count("<tool_response>\nopen\n</tool_response>") == 2
    assert "<|im_start|>user\nSo?<|im_end|>" in agent.prompts[1]


def test_thinking_is_a_block_and_comes_back_as_one() -> None:
    agent = agent_of(THOUGHTFUL, options=THINKING)
    first, second = tool_loop(agent)
    assert [block.type for block in first.content] == ["thinking", "text", "tool_use"]
    assert first.content[0].thinking == "hm"  # type: ignore[union-attr]
    assert [block.type for block in second.content] == ["thinking", "text"]
    assert agent.timelines == ["first_call", None]


def test_a_turn_sent_in_blocks_is_rendered_as_the_turn_it_was() -> None:
    """Also without a record: another agent gets the same blocks."""
    agent, other = agent_of(THOUGHTFUL, options=THINKING), agent_of(["x"], options=THINKING)
    tool_loop(agent)
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c", "name": "look", "input": {"what": "door"}},
    ]
    result = {"type": "tool_result", "tool_use_id": "c", "content": "open"}
    history = [
        *USER,
        {"role": "assistant", "content": blocks},
        {"role": "user", "content": [result]},
    ]
    create(other, messages=history, tools=[LOOK_TOOL])
    assert other.prompts[0] == agent.prompts[1]


def test_stop_reasons_are_true() -> None:
    by_string = create(agent_of(["Answer: 8 END"]), stop_sequences=["X", "END"])
    assert (by_string.stop_reason, by_string.stop_sequence) == ("stop_sequence", "END")
    assert by_string.content[0].text == "Answer: 8"  # type: ignore[union-attr]
    cut = create(agent_of(["a long answer"]), max_tokens=4)
    assert (cut.stop_reason, cut.stop_sequence) == ("max_tokens", None)


def test_a_last_message_of_the_assistants_begins_the_answer() -> None:
    agent = agent_of(["8) END"])
    history = [*USER, {"role": "assistant", "content": [{"type": "text", "text": "It is ("}]}]
    message = create(agent, messages=history, stop_sequences=["END"])
    assert message.content[0].text == "8)"  # type: ignore[union-attr]
    assert agent.prompts[0].endswith("It is (")
    assert agent.tracker.calls[0].response["content"] == "It is (8)"
    streamed = agent_of(["8) END"], delay_s=0.01)
    deltas = [
        event.delta.text
        for event in events_of(streamed, messages=history, stop_sequences=["END"])
        if event.type == "content_block_delta"
    ]
    assert "".join(deltas) == "8)"
    assert streamed.tracker.calls[0].response == agent.tracker.calls[0].response


def test_a_begun_answer_is_recognised_when_it_comes_back_whole() -> None:
    agent = agent_of(["8)", "Sure."])
    prefill = {"role": "assistant", "content": "It is ("}
    create(agent, messages=[*USER, prefill])
    whole = {"role": "assistant", "content": "It is (8)"}
    create(agent, messages=[*USER, whole, {"role": "user", "content": "Sure?"}])
    assert agent.timelines == ["first_call", None]


@pytest.mark.parametrize(
    "last",
    [
        {"role": "assistant", "content": "ends in space "},
        {"role": "assistant", "content": "<tool_call>"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "c", "name": "look", "input": {}}],
        },
    ],
)
def test_what_no_turn_begins_with_is_refused(last: Any) -> None:
    agent = agent_of(["unasked"])
    with pytest.raises(anthropic.BadRequestError):
        create(agent, messages=[*USER, last])
    assert agent.engine.requests == []


@pytest.mark.parametrize(
    ("choice", "prefill"),
    [
        ({"type": "any"}, '"arguments": {'),
        ({"type": "tool", "name": "look"}, '"arguments": {'),
        ({"type": "auto"}, "</think>\n\n"),
    ],
)
def test_tool_choice_is_this_apis(choice: Any, prefill: str) -> None:
    agent = agent_of(["}}\n</tool_call>"])
    create(agent, tools=[LOOK_TOOL], tool_choice=choice)
    assert agent.prompts[0].endswith(prefill)


def test_parallel_tool_use_can_be_disabled() -> None:
    agent = agent_of([f"{CALL}\n{CALL}"])
    choice: Any = {"type": "auto", "disable_parallel_tool_use": True}
    message = create(agent, tools=[LOOK_TOOL], tool_choice=choice)
    assert [block.type for block in message.content] == ["tool_use"]


def test_events_come_in_order_and_add_up() -> None:
    agent = agent_of(THOUGHTFUL, options=THINKING, delay_s=0.01)
    events = events_of(agent, tools=[LOOK_TOOL])
    kinds = [
        f"{event.type} {getattr(getattr(event, 'delta', None), 'type', '')}".strip()
        for event in events
    ]
    without_repeats = [
        kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before
    ]
    assert without_repeats == [
        "message_start",
        "content_block_start",
        "content_block_delta thinking_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta text_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta input_json_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0].message.content == []
    assert events[-2].delta.stop_reason == "tool_use"
    assert events[-2].usage.output_tokens == len(agent.tracker.calls[0].completion_ids)
    indices = [event.index for event in events if event.type == "content_block_start"]
    assert indices == [0, 1, 2]


def test_the_clients_own_stream_helper_adds_up_to_the_message() -> None:
    plain, streamed = (agent_of(THOUGHTFUL, options=THINKING) for _ in range(2))

    async def scenario() -> Message:
        async with streamed.anthropic.messages.stream(
            model="policy",
            max_tokens=300,
            messages=USER,
            tools=[LOOK_TOOL],  # type: ignore[list-item]
        ) as stream:
            return await stream.get_final_message()

    final, message = run(scenario), create(plain, tools=[LOOK_TOOL])
    emitted = [block.model_dump(exclude={"parsed_output"}) for block in final.content]
    assert emitted == [block.model_dump() for block in message.content]
    assert final.usage == message.usage
    assert final.stop_reason == message.stop_reason
    assert plain.tracker.calls[0].response == streamed.tracker.calls[0].response


def test_a_fault_is_this_apis_error() -> None:
    def script(*_: object) -> list[int]:
        raise EngineError("the engine caught fire")

    agent = agent_of([], engine=ScriptedEngine(script))
    with pytest.raises(anthropic.InternalServerError, match="caught fire") as caught:
        create(agent)
    error = {"type": "api_error", "message": "the engine caught fire"}
    assert caught.value.body == {"type": "error", "error": error}
    with pytest.raises(anthropic.APIStatusError, match="caught fire") as in_stream:
        events_of(agent)
    assert in_stream.value.body == {"type": "error", "error": error}
    assert agent.tracker.calls == []


def test_closing_a_stream_cancels_the_request() -> None:
    agent = agent_of(["a long answer"], delay_s=30.0)

    async def scenario() -> bool:
        async with await agent.anthropic.messages.create(
            model="policy", max_tokens=9, messages=USER, stream=True
        ) as stream:
            async for _ in stream:
                break
        return await only_this_task_is_left()

    assert run(scenario)
    assert agent.tracker.calls == []


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"output_config": {"colour": "red"}}, "output_config.colour"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "look"}]}, "tools[0].input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools[0]"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"best_of": 2}, "best_of"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            "messages[0].content[0].tool_use_id",
        ),
        ({"messages": []}, "messages"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(body: dict[str, Any], named: str) -> None:
    agent = agent_of(["unasked"])
    reply = run(lambda: agent.post("/v1/messages", {"max_tokens": 9, "messages": USER, **body}))
    content = json.loads(reply.body)
    assert reply.status == 400
    assert content["type"] == "error"
    assert content["error"]["type"] == "invalid_request_error"
    assert content["error"]["message"].startswith(f"{named}: ")
    assert agent.engine.requests == []


def test_what_is_missing_is_named_without_what_is_there() -> None:
    agent = agent_of([])
    reply = run(lambda: agent.post("/v1/messages", {"messages": USER}))
    assert json.loads(reply.body)["error"]["message"] == "max_tokens: missing"


def test_an_unknown_path_below_the_apis_is_its_error() -> None:
    agent = agent_of([])
    with pytest.raises(anthropic.NotFoundError) as caught:
        run(lambda: agent.anthropic.messages.batches.retrieve("b"))
    assert caught.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
