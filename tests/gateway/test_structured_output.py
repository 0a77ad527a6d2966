"""Answers in a JSON schema, as each client library demands them.

1. `rollout.response_format: prompt`: the schema is in the system prompt; nothing of the sampling
   changes. The object that the library makes of the answer is the workflow's.
2. An answer that does not fit reaches the client as it is: the library's own validation error.
3. A conversation that demands the same format throughout is one timeline.
4. A code fence around the JSON is not the client's to remove.
5. `constrain`: the prompt is the same, and the engine gets a grammar of the answer; thinking and
   tool calls stay possible, as far as the chat format tells them from text.
6. `refuse`: a 400 that names the parameter; a plain text format is accepted.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from ajet.tuner import AjetTuner
from tests.gateway.gateway_fakes import (
    HELLO,
    TOKENIZER,
    TOOL,
    Agent,
    agent_of,
    run,
    stream_chunks,
)

GOOD = '{"city": "Rome", "people": 3}'
BAD = '{"city": "Rome"}'


class Visit(BaseModel):
    city: str
    people: int


SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "Visit", "schema": Visit.model_json_schema()},
}


def tuner_of(agent: Agent) -> AjetTuner:
    return AjetTuner(config=None, gateway=agent.session._gateway, record=agent.record)


async def by_openai(agent: Agent) -> Any:
    client = tuner_of(agent).as_raw_openai_sdk_client()
    completion = await client.chat.completions.parse(
        model="policy",
        messages=HELLO,  # type: ignore[arg-type]
        response_format=Visit,
    )
    return completion.choices[0].message.parsed


async def by_responses(agent: Agent) -> Any:
    client = tuner_of(agent).as_raw_openai_sdk_client()
    response = await client.responses.parse(model="policy", input="hello", text_format=Visit)
    return response.output_parsed


async def by_langchain(agent: Agent) -> Any:
    pytest.importorskip("langchain_openai")
    model = tuner_of(agent).as_langchain_model().with_structured_output(Visit)
    return await model.ainvoke("hello")


async def by_openai_agents(agent: Agent) -> Any:
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)
    client = tuner_of(agent).as_raw_openai_sdk_client()
    model = agents.OpenAIResponsesModel("policy", client)
    visitor = agents.Agent(name="visitor", model=model, output_type=Visit)
    return (await agents.Runner.run(visitor, "hello")).final_output


async def by_pydantic_ai(agent: Agent) -> Any:
    pydantic_ai = pytest.importorskip("pydantic_ai")
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = tuner_of(agent).as_raw_openai_sdk_client()
    model = OpenAIChatModel("policy", provider=OpenAIProvider(openai_client=client))
    output = pydantic_ai.NativeOutput(Visit)
    visitor = pydantic_ai.Agent(model, output_type=output, retries=0)
    return (await visitor.run("hello")).output


async def by_agentscope(agent: Agent) -> Any:
    pytest.importorskip("agentscope")
    model = tuner_of(agent).as_agentscope_model()
    answer = await model(HELLO, structured_model=Visit)
    return Visit.model_validate(answer.metadata)


async def by_anthropic(agent: Agent) -> Any:
    config: Any = {"format": {"type": "json_schema", "schema": Visit.model_json_schema()}}
    message = await agent.anthropic.messages.create(
        model="policy",
        max_tokens=300,
        messages=HELLO,  # type: ignore[arg-type]
        output_config=config,
    )
    return Visit.model_validate_json(message.content[0].text)  # type: ignore[union-attr]


WAYS = [
    by_openai,
    by_responses,
    by_langchain,
    by_openai_agents,
    by_pydantic_ai,
    by_agentscope,
    by_anthropic,
]


@pytest.mark.parametrize("ask", WAYS)
def test_the_schema_is_in_the_prompt_and_the_answer_is_an_object(ask: Any) -> None:
    agent = agent_of([GOOD])
    assert run(lambda: ask(agent)) == Visit(city="Rome", people=3)
    (prompt,) = agent.prompts
    assert "must be one JSON value" in prompt
    assert '"people"' in prompt
    (call,) = agent.tracker.calls
    assert TOKENIZER.decode(call.completion_ids.tolist()) == f"{GOOD}<|im_end|>"


def test_a_schema_may_be_demanded_as_a_forced_tool_call() -> None:
    pytest.importorskip("langchain_openai")
    agent = agent_of([f"{GOOD[1:]}}}\n</tool_call>"])
    model = tuner_of(agent).as_langchain_model()
    visits = model.with_structured_output(Visit, method="function_calling")
    assert run(lambda: visits.ainvoke("hello")) == Visit(city="Rome", people=3)
    assert agent.prompts[0].endswith('{"name": "Visit", "arguments": {')


@pytest.mark.parametrize("ask", [by_openai, by_responses, by_anthropic])
def test_an_answer_that_does_not_fit_is_the_clients_own_error(ask: Any) -> None:
    agent = agent_of([BAD])
    with pytest.raises(ValidationError, match="people"):
        run(lambda: ask(agent))
    assert agent.tracker.calls[0].response["content"] == BAD


@pytest.mark.parametrize(
    "system",
    [[], [{"role": "system", "content": "Be brief."}], [{"role": "system", "content": []}]],
)
def test_a_conversation_in_one_format_is_one_timeline(system: list[Any]) -> None:
    agent = agent_of([GOOD, GOOD])
    messages = [*system, *HELLO]
    answer = run(lambda: agent.chat(messages=messages, response_format=SCHEMA))
    messages += [answer["choices"][0]["message"], *HELLO]
    run(lambda: agent.chat(messages=messages, response_format=SCHEMA))
    assert agent.timelines == ["first_call", None]
    assert len(agent.tracker.samples()[0]) == 1


def test_a_code_fence_is_removed_from_json_and_from_nothing_else() -> None:
    texts = [f"```json\n{GOOD}\n```", "```json\n{no\n```", f"```json\n{GOOD}\n```"]
    agent = agent_of(texts)
    contents = []
    for response_format in (SCHEMA, {"type": "json_object"}, None):
        answer = run(lambda: agent.chat(response_format=response_format))  # noqa: B023
        contents.append(answer["choices"][0]["message"]["content"])
    assert contents == [GOOD, *texts[1:]]


@pytest.mark.parametrize("language", ["json", "", "JSON"])
@pytest.mark.parametrize("form", ["llama-3", "qwen3"])
def test_a_code_fence_is_removed_from_a_streamed_answer_too(form: str, language: str) -> None:
    fenced = f"```{language}\n{GOOD}\n```"
    agent = agent_of([fenced, fenced, "``` is no JSON"], form=form)
    texts = []
    for response_format in (SCHEMA, {"type": "text"}, SCHEMA):
        chunks = run(lambda: stream_chunks(agent, response_format=response_format))  # noqa: B023
        texts.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    assert texts == [GOOD, fenced, "``` is no JSON"]


def test_a_streamed_answer_is_asked_for_in_the_same_way() -> None:
    agent = agent_of([GOOD])
    chunks = run(lambda: stream_chunks(agent, response_format=SCHEMA))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert json.loads(text) == {"city": "Rome", "people": 3}
    assert '"people"' in agent.prompts[0]


def test_a_format_may_be_refused() -> None:
    agent = agent_of(["fine"], response_format="refuse")
    for response_format in (SCHEMA, {"type": "json_object"}):
        error = run(lambda: agent.chat(response_format=response_format))["error"]  # noqa: B023
        assert (error["param"], error["code"]) == ("response_format", "unsupported_parameter")
        assert "rollout.response_format" in error["message"]
    assert agent.engine.requests == []
    assert "error" not in run(lambda: agent.chat(response_format={"type": "text"}))


# 5


def grammar_lines(form: str = "qwen3", options: Any = None, **body: Any) -> list[str]:
    """The grammar that the engine gets with a request."""
    agent = agent_of([GOOD], form=form, options=options, response_format="constrain")
    answer = run(lambda: agent.chat(**{"response_format": SCHEMA, **body}))
    assert "choices" in answer, answer
    same = agent_of([GOOD], form=form, options=options)
    run(lambda: same.chat(**{"response_format": SCHEMA, **body}))
    assert agent.prompts == same.prompts
    return (agent.engine.requests[0].params.grammar or "").splitlines()


def test_an_answer_is_one_json_value_of_the_schema() -> None:
    start, answer = grammar_lines()
    assert start == "start: answer"
    schema = json.loads(answer.removeprefix("answer: %json "))
    assert schema.pop("x-guidance")["whitespace_pattern"] == " ?"
    assert schema == Visit.model_json_schema()
    assert '"type": "object"' in grammar_lines(response_format={"type": "json_object"})[1]
    assert grammar_lines(response_format={"type": "text"}) == []


def test_a_model_may_think_first() -> None:
    opening, closing = TOKENIZER.convert_tokens_to_ids(["<think>", "</think>"])
    lines = grammar_lines(options={"enable_thinking": True})
    assert lines[0] == "start: thinking? answer"
    assert lines[2] == f"thinking: <[{opening}]> TEXT <[{closing}]> GAP"


def test_a_model_may_call_a_tool_instead() -> None:
    lines = grammar_lines(tools=[TOOL])
    (opening,) = TOKENIZER.encode("<tool_call>")
    assert lines[0] == "start: (answer | call)"
    assert lines[2] == f"call: <[{opening}]> <[*]>*"


@pytest.mark.parametrize(
    ("form", "body", "words"),
    [
        ("llama-3", {"tools": [TOOL]}, "beside tools"),
        ("qwen3", {"tools": [TOOL], "tool_choice": "required"}, "whose beginning is given"),
    ],
)
def test_where_no_grammar_fits_the_request_is_refused(
    form: str, body: dict[str, Any], words: str
) -> None:
    agent = agent_of([GOOD], form=form, response_format="constrain")
    error = run(lambda: agent.chat(response_format=SCHEMA, **body))["error"]
    assert error["param"] == "response_format"
    assert words in error["message"]
