"""Each parameter of a chat request is honoured or refused by name.

1. `tool_choice`: `none` hides the tools; `required` and a named function prefill the call, if the
   chat format can begin with one.
2. `parallel_tool_calls: false`: sampling stops with the first call, and only one call is returned.
3. `usage` and `finish_reason` are correct. Seeds, stops and limits reach the engine.
4. A parameter that cannot be honoured is a 400 that names it, and nothing is recorded.
"""

from __future__ import annotations

from typing import Any

import pytest

from ajet.context_tracker.call_markup import call_closing, call_opening
from ajet.context_tracker.samples import build_samples
from tests.gateway.gateway_fakes import (
    CALL,
    HELLO,
    TOKENIZER,
    TOOL,
    Agent,
    agent_of,
    format_of,
    run,
)

SEE = {"type": "function", "function": {"name": "see", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "look"}}


def chat(agent: Agent, **body: Any) -> dict[str, Any]:
    return run(lambda: agent.chat(**body))


def message_of(answer: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = answer["choices"][0]["message"]
    return message


def test_tool_choice_none_hides_the_tools() -> None:
    agent = agent_of(["no", "no"])
    chat(agent, tools=[TOOL], tool_choice="none")
    chat(agent)
    assert agent.prompts[0] == agent.prompts[1]


@pytest.mark.parametrize(
    ("choice", "tools", "prefill", "rest"),
    [
        (NAMED, [TOOL, SEE], '<tool_call>\n{"name": "look", "arguments": {', '"what": "door"}}\n'),
        ("required", [TOOL], '<tool_call>\n{"name": "look", "arguments": {', '"what": "door"}}\n'),
        (
            "required",
            [TOOL, SEE],
            '<tool_call>\n{"name": "',
            'look", "arguments": {"what": "door"}}\n',
        ),
    ],
)
def test_a_demanded_call_is_begun_in_the_prompt_and_not_trained(
    choice: Any, tools: list[Any], prefill: str, rest: str
) -> None:
    agent = agent_of([f"{rest}</tool_call>"])
    answer = chat(agent, tools=tools, tool_choice=choice)
    (call,) = message_of(answer)["tool_calls"]
    assert call["function"] == {"name": "look", "arguments": '{"what": "door"}'}
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert agent.prompts[0].endswith(f"</think>\n\n{prefill}")
    (sample,), _ = build_samples(agent.tracker.calls, "episode", "task")
    trained = TOKENIZER.decode(sample.ids[sample.loss_mask].tolist())
    assert trained == f"{rest}</tool_call><|im_end|>"


def test_a_conversation_goes_on_behind_a_demanded_call() -> None:
    agent = agent_of(['"what": "door"}}\n</tool_call>', "It is open."])
    first = chat(agent, tools=[TOOL], tool_choice="required")
    result = {
        "role": "tool",
        "tool_call_id": message_of(first)["tool_calls"][0]["id"],
        "content": "open",
    }
    messages = [*HELLO, message_of(first), result]
    answer = chat(agent, messages=messages, tools=[TOOL])
    assert message_of(answer)["content"] == "It is open."
    assert agent.timelines == ["first_call", None]


def test_a_demanded_call_that_comes_to_nothing_is_told_as_what_it_is() -> None:
    agent = agent_of(["nonsense"])
    answer = chat(agent, tools=[TOOL], tool_choice="required")
    assert "tool_calls" not in message_of(answer)
    assert message_of(answer)["content"] == '{"name": "look", "arguments": {nonsense'
    assert answer["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("form", ["minimax-m2", "deepseek-r1", "nemotron-3"])
def test_a_format_whose_turns_begin_otherwise_refuses_to_be_told_to_call(form: str) -> None:
    agent = agent_of(["unasked"], form=form)
    answer = chat(agent, tools=[TOOL], tool_choice="required")
    assert answer["error"]["code"] == "unsupported_parameter"
    assert answer["error"]["param"] == "tool_choice"
    assert agent.engine.requests == []


@pytest.mark.parametrize(
    ("form", "opening", "closing"),
    [
        ("qwen3", '<tool_call>\n{"name": "look", "arguments": {', "</tool_call>"),
        ("llama-3", '{"name": "look", "parameters": {', None),
        ("kimi-k2", "functions.look:0<|tool_call_argument_begin|>{", "<|tool_call_end|>"),
        ("glm-4.5", "</think>\n<tool_call>look\n", "</tool_call>"),
        ("deepseek-v3", "look\n```json\n{", "<｜tool▁call▁end｜>"),
    ],
)
def test_the_markup_of_calls_is_found_in_any_format(
    form: str, opening: str, closing: str | None
) -> None:
    chat_format = format_of(form)
    ids = call_opening(chat_format, ("look",))
    assert ids is not None
    assert TOKENIZER.decode(ids).endswith(opening)
    end = call_closing(chat_format)
    assert (None if end is None else TOKENIZER.decode(end)) == closing


def test_without_parallel_calls_sampling_stops_where_the_first_one_ends() -> None:
    agent = agent_of([f"{CALL}\n{CALL}", "It is open."])
    answer = chat(agent, tools=[TOOL], parallel_tool_calls=False)
    assert len(message_of(answer)["tool_calls"]) == 1
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    (request,) = agent.engine.requests
    assert TOKENIZER.decode(request.generation.token_ids) == CALL
    call_id = message_of(answer)["tool_calls"][0]["id"]
    result = {"role": "tool", "tool_call_id": call_id, "content": "open"}
    chat(agent, messages=[*HELLO, message_of(answer), result], tools=[TOOL])
    assert agent.timelines == ["first_call", None]
    assert f"{CALL}<|im_end|>" in agent.prompts[1]


def test_with_parallel_calls_all_are_told_of() -> None:
    agent = agent_of([f"{CALL}\n{CALL}"])
    assert len(message_of(chat(agent, tools=[TOOL]))["tool_calls"]) == 2


def test_usage_counts_what_was_read_and_sampled() -> None:
    agent = agent_of(["one", "three"])
    usage = chat(agent, n=2)["usage"]
    first, second = agent.engine.requests
    assert usage["prompt_tokens"] == len(first.prompt_ids)
    sampled = len(first.generation.token_ids) + len(second.generation.token_ids)
    assert usage["completion_tokens"] == sampled
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_what_is_asked_of_sampling_reaches_the_engine() -> None:
    agent = agent_of(["x"] * 3)
    chat(agent, temperature=0.5, top_p=0.9, top_k=5, seed=7, max_tokens=9, stop="END", n=2)
    chat(agent, max_completion_tokens=8, max_tokens=9)
    first, second, third = (request.params for request in agent.engine.requests)
    assert (first.temperature, first.top_p, first.top_k) == (0.5, 0.9, 5)
    assert (first.max_tokens, first.stop) == (9, ("END",))
    assert (first.seed, second.seed) == (7, 8), "choices of one request differ"
    assert third.max_tokens == 8


def test_a_cut_answer_says_so() -> None:
    assert (
        chat(agent_of(["a long answer"]), max_tokens=4)["choices"][0]["finish_reason"] == "length"
    )


def test_an_answer_may_be_begun_by_the_request() -> None:
    agent = agent_of(["8, I think."])
    prefill = {"role": "assistant", "content": "The answer is: "[:-1]}
    answer = chat(agent, messages=[*HELLO, prefill], continue_final_message=True)
    assert message_of(answer)["content"] == "8, I think."
    assert agent.prompts[0].endswith("The answer is:")
    assert agent.tracker.calls[0].response["content"] == "The answer is:8, I think."
    assert TOKENIZER.decode(agent.tracker.calls[0].completion_ids.tolist()).startswith("8, ")


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"response_format": {"type": "regex"}}, "response_format", "unsupported_parameter"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "invalid_value"),
        ({"top_logprobs": 3, "logprobs": True}, "top_logprobs", "unsupported_parameter"),
        ({"frequency_penalty": 1.0}, "frequency_penalty", "unsupported_parameter"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter"),
        ({"presence_penalty": -1.0}, "presence_penalty", "unsupported_parameter"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "sometimes"}, "tool_choice", "invalid_value"),
        ({"tool_choice": NAMED, "tools": [SEE]}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice", "unsupported_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "tools[0]", "invalid_value"),
        ({"tools": [TOOL, 5]}, "tools.1", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 1000}, "n", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        (
            {"messages": [*HELLO, {"role": "assistant", "audio": {"id": "a"}}]},
            "messages[1].audio",
            None,
        ),
        ({"stop": 5}, "stop", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"temperature": -1}, "temperature", "invalid_value"),
        ({"temperature": 1e-300}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unknown_parameter"),
        ({"min_p": 0.1}, "min_p", "unknown_parameter"),
        ({"messages": "hello"}, "messages", "invalid_value"),
        ({"messages": []}, "messages", None),
        ({"continue_final_message": True}, "continue_final_message", "invalid_value"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    body: dict[str, Any], param: str, code: str | None
) -> None:
    agent = agent_of(["unasked"])
    error = chat(agent, **body)["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
    assert param.split(".")[0] in error["message"]
    assert agent.engine.requests == []
    assert agent.tracker.calls == []


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "text"}, "logit_bias": {}, "user": "me", "store": True},
        {"frequency_penalty": 0, "presence_penalty": 0.0, "top_logprobs": None, "n": None},
        {"stream": False, "parallel_tool_calls": True, "tools": [], "tool_choice": "auto"},
        {"model": "anything", "metadata": {}, "service_tier": "auto", "stop": None},
    ],
)
def test_what_asks_for_nothing_special_is_taken(body: dict[str, Any]) -> None:
    assert message_of(chat(agent_of(["fine"]), **body))["content"] == "fine"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"messages": [{"role": "user", "content": "\\ud800"}]}']
)
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    agent = agent_of(["unasked"])
    assert run(lambda: agent.post("/v1/chat/completions", body)).status == 400


def test_a_wrong_value_is_not_repeated_at_length() -> None:
    error = chat(agent_of([]), stop=5, messages={"x": "y" * 100_000})["error"]
    assert len(error["message"]) < 400


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 2**90), ("seed", 2**63 - 1), ("seed", -(2**64)), ("top_k", 10**20), ("top_k", -2)],
)
def test_a_number_that_no_engine_can_hold_is_refused(name: str, value: int) -> None:
    agent = agent_of(["unasked"])
    answer = chat(agent, **{name: value})
    assert answer["error"]["param"] == name
    assert agent.engine.requests == []
