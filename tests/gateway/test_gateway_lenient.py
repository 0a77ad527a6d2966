"""What finished clients send and what models write, taken as it is meant.

1. Messages API: hints that coding agents always send do not change the answer; `count_tokens` gives
   the size of the prompt that the same request would have, and leaves no trace.
2. Arguments of tool calls are JSON for every client: what is no JSON stays text, whole. Text after
   a call is kept. `parameters` is read as `arguments`.
3. A call of an old history (`function_call`) is rendered. Parts of a tool's result are not glued.
4. A null is the same as an absent parameter, known or unknown, in every API.
5. The bytes of tokens add up to the text, also where a token is part of a character.
6. The OpenAI client of the tuner needs no `model`, and takes messages by position.
7. What clients for other servers send besides is taken where it asks for nothing special; else the
   error says what to use here.
8. A tuner makes a client from a class path; its record says whether the context overflowed.
9. Whatever a model writes, the request is answered and the conversation continues.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError

import ajet
from ajet.context_tracker.chat_format import load_tokenizer
from ajet.errors import ConfigError
from ajet.tuner import AjetTuner
from tests.gateway.gateway_fakes import CALL, HELLO, TOKENIZER, TOOL, Agent, agent_of, run
from tests.property.random_agents import FORMATS

LOOK_TOOL = {"name": "look", "input_schema": {"type": "object"}}


def chat(agent: Agent, **body: Any) -> dict[str, Any]:
    return run(lambda: agent.chat(**body))


def message_of(text: str, **body: Any) -> dict[str, Any]:
    """The message that an agent gets if the model writes `text`."""
    return message_from(agent_of([text]), **body)


def message_from(agent: Agent, **body: Any) -> dict[str, Any]:
    message: dict[str, Any] = chat(agent, **body)["choices"][0]["message"]
    return message


def post(agent: Agent, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    reply = run(lambda: agent.post(path, {"model": "m", "messages": HELLO, **body}))
    return reply.status, json.loads(reply.body)


# 1


@pytest.mark.parametrize(
    "hint",
    [
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"thinking": {"type": "adaptive"}},
        {"context_management": {"edits": []}},
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        {"output_config": {"effort": "medium"}},
        {"output_config": None, "thinking": None},
    ],
)
def test_hints_of_coding_agents_do_not_change_the_prompt(hint: dict[str, Any]) -> None:
    agent = agent_of(["ok", "ok"])
    status, message = post(agent, "/v1/messages", max_tokens=9, **hint)
    assert (status, message["content"]) == (200, [{"type": "text", "text": "ok"}])
    post(agent, "/v1/messages", max_tokens=9)
    assert agent.prompts[0] == agent.prompts[1]


def test_tokens_are_counted_and_leave_no_trace() -> None:
    agent, same = agent_of(["ok", "more"]), agent_of(["ok", "more"])
    fields: dict[str, Any] = {"system": "Be brief.", "tools": [LOOK_TOOL]}
    messages: list[dict[str, Any]] = [*HELLO]
    for _ in range(2):
        status, counted = post(
            agent, "/v1/messages/count_tokens", messages=messages, thinking=None, **fields
        )
        assert status == 200
        answers = [
            post(one, "/v1/messages", messages=messages, max_tokens=9, **fields)[1]
            for one in (agent, same)
        ]
        assert counted == {"input_tokens": answers[0]["usage"]["input_tokens"]}
        assert answers[0] == answers[1], "names and seeds depend on answered requests only"
        messages += [{"role": "assistant", "content": answers[0]["content"]}, *HELLO]
    assert agent.timelines == ["first_call", None]


def test_the_genuine_client_counts_tokens() -> None:
    agent = agent_of([])
    counted = run(lambda: agent.anthropic.messages.count_tokens(model="x", messages=HELLO))  # type: ignore[arg-type]
    assert counted.input_tokens > 5
    status, error = post(agent, "/v1/messages/count_tokens", messages=[])
    assert (status, error["type"]) == (400, "error")


# 2


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "[NaN]"])
def test_arguments_that_are_no_json_stay_text(number: str) -> None:
    text = f'{{"name": "look", "arguments": {{"what": {number}}}}}'
    message = message_of(f"<tool_call>\n{text}\n</tool_call>", tools=[TOOL])
    assert message == {"role": "assistant", "content": text}


def test_text_behind_an_end_mark_within_a_string_is_kept() -> None:
    text = '{"name": "look", "arguments": {"what": "a</tool_call>KEPT"}}'
    message = message_of(f"<tool_call>\n{text}\n</tool_call>", tools=[TOOL])
    assert "tool_calls" not in message
    assert '"what": "a' in message["content"]
    assert 'KEPT"}}' in message["content"]


HERMES = '<tool_call>\n{"name": "look", "arguments": {"what": %s}}\n</tool_call>'
CUT_CALLS = {  # a call whose end mark stands within its argument
    "qwen3": HERMES % '"a</tool_call>KEPT"',
    "qwen3.5": "</think>\n\n<tool_call>\n<function=look>\n<parameter=what>\na</tool_call>KEPT\n"
    "</parameter>\n</function>\n</tool_call>",
    "glm-4.5": "<tool_call>look\n<arg_key>what</arg_key>\n<arg_value>a</tool_call>KEPT"
    "</arg_value>\n</tool_call>",
    "kimi-k2": "<|tool_calls_section_begin|><|tool_call_begin|>functions.look:0"
    '<|tool_call_argument_begin|>{"what": "a<|tool_call_end|>KEPT"}<|tool_call_end|>',
    "minimax-m2": '</think>\n<minimax:tool_call>\n<invoke name="look">\n<parameter name="what">'
    "a</minimax:tool_call>KEPT</parameter>\n</invoke>\n</minimax:tool_call>",
    "deepseek-v3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>look\n"
    '```json\n{"what": "a<｜tool▁call▁end｜>KEPT"}\n```<｜tool▁call▁end｜>',
}


@pytest.mark.parametrize("form", CUT_CALLS)
def test_a_call_that_its_own_argument_cuts_stands_whole_in_the_content(form: str) -> None:
    text = CUT_CALLS[form]
    agent = agent_of([text], form=form)
    message = message_from(agent, tools=[TOOL])
    assert "tool_calls" not in message
    start, end = text.index("look"), text.index("KEPT") + 10
    assert message["content"].count(text[start:end]) == 1, "as it was written, and once"


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ('"</tool_call>', '"</tool_call>}}'),
        ('"a<tool_call>b</tool_call>c"', '"a<tool_call>b</tool_call>c"}}'),
        ('"a\n</tool_call>\nb"', '"a\n</tool_call>\nb"}}'),
    ],
)
def test_marks_within_a_string_are_kept_where_they_stand(arguments: str, kept: str) -> None:
    message = message_of(f"One.\n{HERMES % arguments}\nTwo.\n{CALL}", tools=[TOOL])
    assert message["content"].startswith(f'One.\n{{"name": "look", "arguments": {{"what": {kept}')
    assert message["content"].endswith("Two.")
    assert len(message["tool_calls"]) == 1


def test_text_around_calls_stands_in_the_content_once() -> None:
    call = "<tool_call>look\n<arg_key>what</arg_key>\n<arg_value>a</arg_value>\n</tool_call>"
    agent = agent_of([f"</think>One.\n{call}\nTwo.\n{call}\nThree."], form="glm-4.5")
    message = message_from(agent, tools=[TOOL])
    assert message["content"] == "One.\nTwo.\nThree."
    assert len(message["tool_calls"]) == 2


def test_text_around_calls_is_kept() -> None:
    message = message_of(f"One.\n{CALL}\nTwo.\n{CALL}\nThree.", tools=[TOOL])
    assert message["content"] == "One.\nTwo.\nThree."
    assert len(message["tool_calls"]) == 2


@pytest.mark.parametrize(("form", "options"), FORMATS)
def test_the_markup_of_calls_is_no_text(form: str, options: dict[str, Any]) -> None:
    chat_format = agent_of([], form=form, options=options).tracker.chat_format
    call = {"type": "function", "function": {"name": "look", "arguments": {"what": "door"}}}
    num_calls = 1 if form == "llama-3" else 2  # a turn of that format has one call at most
    calls = [{**call, "id": f"functions.look:{index}"} for index in range(num_calls)]
    turn = {"role": "assistant", "content": "", "tool_calls": calls}
    head = chat_format.render(HELLO, [TOOL])
    whole = chat_format.render([*HELLO, turn], [TOOL])
    if whole[: len(head)] != head:
        pytest.skip("the format rewrites its prompt")
    parsed = chat_format.parse(whole[len(head) :], head, [TOOL])
    if len(parsed.tool_calls) == num_calls:
        # GLM's generation prompt, which follows the turn here, is no stop token.
        assert parsed.content.replace("<|assistant|>", "").strip() == ""


def test_parameters_are_read_as_arguments() -> None:
    text = '<tool_call>\n{"name": "look", "parameters": {"what": "door"}}\n</tool_call>'
    (call,) = message_of(text, tools=[TOOL])["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"what": "door"}


# 3


def test_a_call_of_an_old_history_is_rendered() -> None:
    function = {"name": "look", "arguments": '{"what": "door"}'}
    result = {"role": "function", "name": "look", "content": "open"}
    old = {"role": "assistant", "content": None, "function_call": function}
    new = {"role": "assistant", "content": None, "tool_calls": [{"function": function}]}
    agent = agent_of(["ok", "ok"])
    for turn in (old, new):
        chat(agent, messages=[*HELLO, turn, result], tools=[TOOL])
    assert agent.prompts[0] == agent.prompts[1]
    assert CALL in agent.prompts[0]
    broken = {**old, "function_call": {"arguments": "{}"}}
    error = chat(agent, messages=[*HELLO, broken])["error"]
    assert error["param"] == "messages[1].function_call"


def test_parts_of_a_tools_result_are_not_glued() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    agent = agent_of(["ok", "ok"])
    use = {"type": "tool_use", "id": "u", "name": "look", "input": {"what": "door"}}
    result = {"type": "tool_result", "tool_use_id": "u", "content": parts}
    messages = [
        *HELLO,
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    post(agent, "/v1/messages", messages=messages, max_tokens=9, tools=[LOOK_TOOL])
    call = {"id": "u", "function": {"name": "look", "arguments": {"what": "door"}}}
    turn = {"role": "assistant", "tool_calls": [call]}
    tool = {"role": "tool", "tool_call_id": "u", "content": parts}
    chat(agent, messages=[*HELLO, turn, tool], tools=[TOOL])
    assert all("one\ntwo" in prompt for prompt in agent.prompts)


def test_blocks_of_the_messages_api_are_not_glued() -> None:
    blocks = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    agent = agent_of(["ok", "more"])
    first = {"role": "user", "content": blocks}
    fields: dict[str, Any] = {"system": blocks, "max_tokens": 9}
    _, answer = post(agent, "/v1/messages", messages=[first], **fields)
    assert agent.prompts[0].count("one\ntwo") == 2
    turn = {"role": "assistant", "content": answer["content"]}
    post(agent, "/v1/messages", messages=[first, turn, first], **fields)
    assert agent.timelines == ["first_call", None], "the history is recognised"


@pytest.mark.parametrize("arguments", ["", " ", None, "{}"])
def test_a_call_without_arguments_is_rendered_as_json(arguments: str | None) -> None:
    call = {"id": "u", "type": "function", "function": {"name": "look", "arguments": arguments}}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    agent = agent_of(["ok"])
    chat(agent, messages=[*HELLO, turn, {"role": "tool", "content": "x"}], tools=[TOOL])
    assert '{"name": "look", "arguments": {}}' in agent.prompts[0]


# 4


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"prediction": None, "functions": None, "audio": None}),
        ("/v1/chat/completions", {"stream": True, "stream_options": {"include_usage": None}}),
        ("/v1/chat/completions", {"tools": [{**TOOL, "type": None}], "tool_choice": None}),
        ("/v1/messages", {"max_tokens": 9, "container": None, "anything": None}),
        (
            "/v1/messages",
            {
                "max_tokens": 9,
                "tools": [{**LOOK_TOOL, "type": None}],
                "tool_choice": {"type": "auto", "name": None, "disable_parallel_tool_use": None},
            },
        ),
        ("/v1/responses", {"input": "hello", "prompt": None, "anything": None}),
        ("/v1/responses", {"input": "hello", "reasoning": {"effort": None, "summary": None}}),
        ("/v1/responses", {"input": "hello", "text": {"format": None, "verbosity": None}}),
    ],
)
def test_null_is_as_absent(path: str, body: dict[str, Any]) -> None:
    agent = agent_of(["ok"])
    if path == "/v1/responses":
        body = {"messages": None, **body}
    reply = run(lambda: agent.post(path, {"model": "m", "messages": HELLO, **body}))
    assert reply.status == 200, reply.body


@pytest.mark.parametrize(
    "body",
    [
        {"prediction": {"type": "content", "content": "hello"}},
        {"repetition_penalty": 1.0, "min_tokens": 0, "best_of": 1, "length_penalty": 1.0},
        {"skip_special_tokens": True, "ignore_eos": False, "add_generation_prompt": True},
        {"use_beam_search": False, "stop_token_ids": [], "include_reasoning": True},
        {"chat_template_kwargs": {}, "extra_body": {}, "functions": [], "function_call": "auto"},
    ],
)
def test_what_other_servers_take_is_taken_if_it_changes_nothing(body: dict[str, Any]) -> None:
    assert "choices" in chat(agent_of(["ok"]), **body)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(
    "body",
    [
        lambda enabled: {"enable_thinking": enabled},
        lambda enabled: {"chat_template_kwargs": {"enable_thinking": enabled}},
        lambda enabled: {"chat_template_kwargs": {"thinking": enabled}},
        lambda enabled: {"thinking": {"type": "enabled" if enabled else "disabled"}},
    ],
)
def test_thinking_is_taken_as_the_chat_format_has_it(body: Any, enabled: bool) -> None:
    agent = agent_of(["ok"], options={"enable_thinking": enabled})
    error = chat(agent, **body(not enabled))["error"]
    assert error["param"] == next(iter(body(enabled)))
    assert f"ajet.model.enable_thinking: {str(not enabled).lower()}" in error["message"]
    assert "choices" in chat(agent, **body(enabled))


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"repetition_penalty": 1.1}, "repetition_penalty", "leave it out"),
        (
            {"chat_template_kwargs": {"enable_thinking": True}},
            "chat_template_kwargs",
            "ajet.model",
        ),
        ({"enable_thinking": True}, "enable_thinking", "ajet.model.enable_thinking"),
        ({"thinking": {"type": "enabled"}}, "thinking", "ajet.model.enable_thinking"),
        ({"functions": [{"name": "f"}]}, "functions", "use tools"),
        ({"function_call": {"name": "f"}}, "function_call", "use tool_choice"),
        ({"stop_token_ids": [5]}, "stop_token_ids", "use stop"),
    ],
)
def test_what_other_servers_take_is_refused_with_what_to_use(
    body: dict[str, Any], param: str, words: str
) -> None:
    error = chat(agent_of([]), **body)["error"]
    assert error["param"] == param
    assert words in error["message"]


def test_a_null_in_place_of_what_is_needed_is_refused() -> None:
    error = chat(agent_of([]), messages=None)["error"]
    assert error["param"] == "messages"


# 5


def test_bytes_of_tokens_add_up_to_the_text() -> None:
    text = "naïve 门 🙂!"
    answer = chat(agent_of([text]), logprobs=True)
    entries = answer["choices"][0]["logprobs"]["content"]
    assert bytes(byte for entry in entries[:-1] for byte in entry["bytes"]).decode() == text


def test_a_real_tokenizer_says_the_bytes_of_its_tokens() -> None:
    folder = Path(ajet.__file__).parent / "tiny_model" / "calculator"
    tokenizer = load_tokenizer(folder)
    text = "naïve 门 🙂 <tool_call>"
    ids = tokenizer.encode(text)
    if tokenizer.decode(ids) != text:
        pytest.skip("the tiny model's vocabulary has no such characters")
    parts = [tokenizer.token_bytes(token) for token in ids]
    assert b"".join(part or b"" for part in parts).decode() == text


# 6, 7


def tuner_of(agent: Agent) -> AjetTuner:
    return AjetTuner(config=None, gateway=agent.session._gateway, record=agent.record)


def test_the_openai_client_needs_no_model_and_takes_messages_by_position() -> None:
    agent = agent_of(["one", "two", "three", "four"])
    client = tuner_of(agent).as_raw_openai_sdk_client()
    assert type(client) is AsyncOpenAI
    create: Any = client.chat.completions.create

    async def scenario() -> list[str]:
        answers = [
            await create(messages=HELLO),
            await create(HELLO),
            await create(HELLO, temperature=0.5),
            await create(model="any", messages=HELLO),
        ]
        return [answer.choices[0].message.content for answer in answers]

    assert run(scenario) == ["one", "two", "three", "four"]
    with pytest.raises(TypeError):
        run(lambda: create(HELLO, "policy"))


def session_and_endpoint(session: Any, http_endpoint: Any) -> Any:
    return session, http_endpoint


def test_a_client_from_a_class_path() -> None:
    agent = agent_of([])
    tuner = tuner_of(agent)
    session, _ = tuner.as_client(f"{__name__}->session_and_endpoint", "mine", "tag")
    assert session.agent_name == "mine"
    with pytest.raises(ConfigError, match="tuner.as_client"):
        tuner.as_client(f"{__name__}->nothing_of_this_name")
    with pytest.raises(ConfigError, match="openai"):
        tuner.as_client("opnai")


def test_the_record_says_when_the_context_overflowed() -> None:
    agent = agent_of(["ok"])
    tuner = tuner_of(agent)
    record, client = tuner.get_context_tracker(), tuner.as_raw_openai_sdk_client()
    run(lambda: client.chat.completions.create(model="m", messages=HELLO))  # type: ignore[arg-type]
    assert record.context_overflow is False
    long: Any = [{"role": "user", "content": "x" * (1 << 14)}]
    with pytest.raises(BadRequestError) as caught:
        run(lambda: client.chat.completions.create(model="m", messages=long))
    assert caught.value.code == "context_length_exceeded"
    assert record.context_overflow is True
    assert tuner.get_context_tracker() is record
    assert [TOKENIZER.decode(call.completion_ids.tolist()) for call in record.calls] != []


# 9. Whatever a model writes, the request is answered and the conversation continues.


def call_of(arguments: str) -> str:
    return f'<tool_call>\n{{"name": "look", "arguments": {arguments}}}\n</tool_call>'


DEEP = 1500
"""More levels than Python's JSON reads."""
ODD_CALLS = [
    *map(call_of, ("5", "true", "null", "NaN", "1e999", "[1]", '"text"', "1" * 5000)),
    *map(call_of, ("[" * DEEP + "]" * DEEP, '{"a": ' * 900 + "1" + "}" * 900)),
    *map(call_of, (f'"{"[" * DEEP}"', "[" * 250 + "]" * 250)),
    '<tool_call>\n{"name": 5, "arguments": {}}\n</tool_call>',
    f"<tool_call>\n{'[' * DEEP}\n</tool_call>",
    "<tool_call></tool_call>",
    "",
]


@pytest.mark.parametrize("text", ODD_CALLS, ids=[text[:60] for text in ODD_CALLS])
def test_no_completion_ends_an_episode(text: str) -> None:
    look = {"name": "look", "input_schema": {"type": "object"}}

    async def scenario() -> None:
        for path, body in (
            ("/v1/chat/completions", {"messages": HELLO, "tools": [TOOL]}),
            ("/v1/messages", {"messages": HELLO, "tools": [look], "max_tokens": 9000}),
            ("/v1/responses", {"input": "hello", "tools": [{"type": "function", "name": "look"}]}),
        ):
            agent = agent_of([text, "Fine."], checklist=("wrong_toolcall",))
            assert (await agent.post(path, body)).status == 200
        agent = agent_of([text, "Fine."])
        message = (await agent.chat(tools=[TOOL]))["choices"][0]["message"]
        ids = [call["id"] for call in message.get("tool_calls") or []]
        added = [{"role": "tool", "tool_call_id": id_, "content": "A door."} for id_ in ids]
        added = added or [{"role": "user", "content": "Go on."}]
        answer = await agent.chat(messages=[*HELLO, message, *added], tools=[TOOL])
        assert answer["choices"][0]["message"]["content"] == "Fine."
        assert agent.timelines == ["first_call", None]

    run(scenario)


def test_arguments_that_are_nested_too_deeply_are_refused_by_name() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    use = {"type": "tool_use", "id": "t", "name": "look", "input": {"what": deep}}
    body = {"max_tokens": 9, "messages": [*HELLO, {"role": "assistant", "content": [use]}]}

    async def scenario() -> None:
        reply = await agent_of(["Fine."]).post("/v1/messages", body)
        assert reply.status == 400 and b"more than 200 levels" in reply.body

    run(scenario)
