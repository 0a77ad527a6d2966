"""The Responses API, through the OpenAI SDK's client, used as the Agents SDK uses it.

1. Its requests become the gateway's own: same prompts, same records, same timelines.
2. Events come in the API's order, numbered from 0, and add up to the final response.
3. `previous_response_id` continues an answer of the same agent; with `store: false` it cannot be.
4. A parameter that cannot be honoured is a 400 that names it; an engine error ends a stream with
   `response.failed`.
"""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.types.responses import Response

from ajet.engine.scripted import ScriptedEngine
from ajet.errors import EngineError
from tests.gateway.gateway_fakes import (
    CALL,
    LOOK,
    TOOL,
    Agent,
    agent_of,
    collect,
    only_this_task_is_left,
    run,
)

FUNCTION = {"type": "function", "strict": True, **LOOK}
THINKING = {"enable_thinking": True, "thinking_retention": "all"}
THOUGHTFUL = [f"<think>\nhm\n</think>\n\nI look.\n{CALL}", "<think>\nso\n</think>\n\nOpen."]


def create(agent: Agent, **body: Any) -> Response:
    response: Response = run(lambda: agent.openai.responses.create(model="policy", **body))
    return response


def events_of(agent: Agent, **body: Any) -> list[Any]:
    async def scenario() -> list[Any]:
        return await collect(
            await agent.openai.responses.create(model="policy", stream=True, **body)
        )

    return run(scenario)


def test_text_in_text_out_with_true_usage() -> None:
    agent = agent_of(["Hi there."])
    response = create(agent, input="hello", instructions="Be brief.", temperature=0.5)
    assert response.output_text == "Hi there."
    assert (response.status, response.object, response.temperature) == (
        "completed",
        "response",
        0.5,
    )
    (request,) = agent.engine.requests
    assert response.usage is not None
    assert response.usage.input_tokens == len(request.prompt_ids)
    assert response.usage.output_tokens == len(b"Hi there.") + 1
    assert agent.prompts[0].startswith("<|im_start|>system\nBe brief.<|im_end|>")


def test_a_request_is_the_same_in_both_apis() -> None:
    agent = agent_of(["a", "b"])
    create(agent, input="hello", instructions="Be brief.", tools=[FUNCTION], max_output_tokens=9)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    run(lambda: agent.chat(messages=messages, tools=[TOOL], max_tokens=9, seed=None))
    assert agent.prompts[0] == agent.prompts[1]
    first, second = (request.params for request in agent.engine.requests)
    assert (first.max_tokens, first.stop_token_ids) == (second.max_tokens, second.stop_token_ids)


def tool_loop(agent: Agent, **options: Any) -> list[Response]:
    """Ask, run the tool, send everything back, as the Agents SDK does."""
    items: list[Any] = [{"role": "user", "content": "What about the door?"}]
    first = create(agent, input=items, tools=[FUNCTION], include=[], **options)
    items += [item.model_dump(exclude_unset=True) for item in first.output]
    items += [
        {"type": "function_call_output", "call_id": item.call_id, "output": "open"}
        for item in first.output
        if item.type == "function_call"
    ]
    return [first, create(agent, input=items, tools=[FUNCTION], include=[], **options)]


def test_a_tool_loop_is_one_timeline() -> None:
    agent = agent_of([f"I look.\n{CALL}\n{CALL}", "Open."])
    first, second = tool_loop(agent)
    assert [item.type for item in first.output] == ["message", "function_call", "function_call"]
    assert second.output_text == "Open."
    assert agent.timelines == ["first_call", None]


def test_reasoning_is_an_item_and_comes_back_as_one() -> None:
    agent = agent_of(THOUGHTFUL, options=THINKING)
    first, _ = tool_loop(agent)
    assert [item.type for item in first.output] == ["reasoning", "message", "function_call"]
    assert first.output[0].content[0].text == "hm"  # type: ignore[union-attr, index]
    assert agent.timelines == ["first_call", None]


def test_a_turn_sent_in_items_is_rendered_as_the_turn_it_was() -> None:
    """Also without a record: another agent gets the same items."""
    agent = agent_of(THOUGHTFUL, options=THINKING)
    _, second = tool_loop(agent)
    other = agent_of(["x"], options=THINKING)
    history: list[Any] = [
        {"role": "user", "content": "What about the door?"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": "I look."},
        {
            "type": "function_call",
            "call_id": "c",
            "name": "look",
            "arguments": '{"what": "door"}',
        },
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_text", "text": "open"}],
        },
    ]
    create(other, input=history, tools=[FUNCTION])
    assert other.prompts[0] == agent.prompts[1]
    assert second.output_text == "Open."


def test_a_previous_response_is_continued_without_its_instructions() -> None:
    agent = agent_of(["one", "two", "three"])
    first = create(agent, input="a", instructions="Old.")
    second = create(agent, input="b", previous_response_id=first.id)
    create(agent, input="c", previous_response_id=second.id)
    assert "Old." not in agent.prompts[1]
    assert agent.timelines[2] is None, "the second had no instructions, like the third"
    for text in ("a", "one", "b", "two", "c"):
        assert f"{text}<|im_end|>" in agent.prompts[2]


def test_an_unknown_or_forgotten_response_is_not_continued() -> None:
    agent, other = agent_of(["one", "two"]), agent_of(["one"])
    forgotten = create(agent, input="a", store=False)
    foreign = create(agent, input="b")
    for other_agent, response_id in ((agent, forgotten.id), (other, foreign.id), (agent, "resp_x")):
        with pytest.raises(openai.BadRequestError) as caught:
            create(other_agent, input="c", previous_response_id=response_id)
        assert caught.value.code == "previous_response_not_found"


def test_a_cut_answer_is_incomplete() -> None:
    response = create(agent_of(["a long answer"]), input="a", max_output_tokens=4)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_events_come_in_order_and_add_up() -> None:
    agent = agent_of(THOUGHTFUL, options=THINKING, delay_s=0.01)
    events = events_of(agent, input="door?", tools=[FUNCTION])
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type.removeprefix("response.") for event in events]
    text = ["output_item.added", "content_part.added"]
    done = ["content_part.done", "output_item.done"]
    assert list(dict.fromkeys(kinds[:2])) == ["created", "in_progress"]
    without_repeats = [
        kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before
    ]
    assert without_repeats[2:] == [
        *text,
        "reasoning_text.delta",
        "reasoning_text.done",
        *done,
        *text,
        "output_text.delta",
        "output_text.done",
        *done,
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    final = events[-1].response
    assert [event.item for event in events if event.type == "response.output_item.done"] == (
        final.output
    )
    assert final.usage.output_tokens == len(agent.tracker.calls[0].completion_ids)


def test_a_stream_is_recorded_and_answered_like_no_stream() -> None:
    plain, streamed = (agent_of(THOUGHTFUL, options=THINKING) for _ in range(2))
    response = create(plain, input="door?", tools=[FUNCTION])
    final = events_of(streamed, input="door?", tools=[FUNCTION])[-1].response
    assert final.output == response.output
    assert final.usage == response.usage
    assert plain.tracker.calls[0].response == streamed.tracker.calls[0].response


def test_the_clients_own_stream_helper_understands_it() -> None:
    agent = agent_of([f"I look.\n{CALL}"], delay_s=0.01)

    async def scenario() -> Any:
        async with agent.openai.responses.stream(
            model="policy", input="door?", tools=[FUNCTION]
        ) as stream:
            await stream.until_done()
            return await stream.get_final_response()

    response = run(scenario)
    assert [item.type for item in response.output] == ["message", "function_call"]
    assert response.output_text == "I look."


def test_an_answer_of_nothing_is_an_empty_message() -> None:
    (item,) = create(agent_of([""]), input="a").output
    assert item.type == "message"
    assert item.content[0].text == ""  # type: ignore[union-attr]
    (streamed,) = events_of(agent_of([""]), input="a")[-1].response.output
    assert streamed.content[0].text == ""


def test_a_named_function_is_demanded_in_this_apis_shape() -> None:
    agent = agent_of(['"what": "door"}}\n</tool_call>'])
    choice: Any = {"type": "function", "name": "look"}
    response = create(agent, input="a", tools=[FUNCTION], tool_choice=choice)
    assert [item.type for item in response.output] == ["function_call"]


def test_a_fault_ends_a_stream_in_failed() -> None:
    def script(*_: object) -> list[int]:
        raise EngineError("the engine caught fire")

    agent = agent_of([], engine=ScriptedEngine(script))
    last = events_of(agent, input="a")[-1]
    assert last.type == "response.failed"
    assert "caught fire" in last.response.error.message
    assert agent.tracker.calls == []
    with pytest.raises(openai.InternalServerError, match="caught fire"):
        create(agent, input="a")


def test_closing_a_stream_cancels_the_request() -> None:
    agent = agent_of(["a long answer"], delay_s=30.0)

    async def scenario() -> bool:
        stream = await agent.openai.responses.create(model="policy", input="a", stream=True)
        async with stream:
            async for _ in stream:
                break
        return await only_this_task_is_left()

    assert run(scenario)
    assert agent.tracker.calls == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "a", "text": {"verbose": True}}, "text.verbose"),
        ({"input": "a", "text": {"format": {"type": "grammar"}}}, "response_format"),
        ({"input": "a", "reasoning": {"context": "all_turns"}}, "reasoning.context"),
        ({"input": "a", "background": True}, "background"),
        ({"input": "a", "include": ["message.output_text.logprobs"]}, "include"),
        ({"input": "a", "truncation": "auto"}, "truncation"),
        ({"input": "a", "conversation": "conv_1"}, "conversation"),
        ({"input": "a", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "a", "tools": [{"type": "function"}]}, "tools[0]"),
        ({"input": "a", "tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"input": "a", "min_p": 1}, "min_p"),
        ({"input": 5}, "input"),
        ({}, "input"),
        ({"input": []}, "messages"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    agent = agent_of(["unasked"])

    async def scenario() -> Any:
        return await agent.openai.post("/responses", cast_to=dict, body=body)

    with pytest.raises(openai.BadRequestError) as caught:
        run(scenario)
    assert caught.value.param == param
    assert agent.engine.requests == []
