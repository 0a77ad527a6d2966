"""Requests without the library's walk over its parameter types.

1. The bytes of every request equal those of the untouched library, for every parameter of `create`
   and `parse`, alone and together, streamed and not, blocking and asynchronous.
2. Values that are not JSON yet are converted by the library: pydantic models, iterators, files.
3. Errors of the library stay as they are.
4. Plain histories are not walked.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, OpenAI, omit
from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel

from ajet.gateway.clients import openai_client
from ajet.gateway.clients.openai_client import prepare

HISTORY: list[Any] = [
    {"role": "system", "content": "s", "own_key": 1},
    {"role": "user", "content": [{"type": "text", "text": "é"}]},
    {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {}}]},
    {"role": "tool", "tool_call_id": "c", "content": "4"},
]
SPOKEN = ChatCompletionMessage(role="assistant", content="hi")
VALUES: dict[str, Any] = {
    "audio": {"format": "mp3", "voice": "ash"},
    "conversation": {"id": "conv"},
    "context_management": [{"type": "compaction"}],
    "extra_body": {"top_k": 3},
    "extra_headers": {"x-a": "b"},
    "extra_query": {"q": "1"},
    "function_call": {"name": "f"},
    "functions": [{"name": "f", "parameters": {"type": "object"}}],
    "include": ["message.output_text.logprobs"],
    "logit_bias": {"5": -100},
    "metadata": {"k": "v"},
    "modalities": ["text"],
    "prediction": {"type": "content", "content": "x"},
    "prompt": {"id": "p", "variables": {"a": "b"}},
    "reasoning": {"effort": "low"},
    "response_format": {"type": "json_object"},
    "stop": ["a", "b"],
    "stream_options": {"include_usage": True},
    "text": {"format": {"type": "text"}},
    "timeout": 3.0,
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": None}}}],
    "web_search_options": {"search_context_size": "low"},
}


class Answer(BaseModel):
    text: str


def value_of(name: str, parameter: inspect.Parameter) -> Any:
    """A representative value of a parameter."""
    if name in VALUES:
        return VALUES[name]
    annotation = str(parameter.annotation)
    for kind, value in (("bool", True), ("float", 0.5), ("int", 3)):
        if kind in annotation:
            return value
    return "text"


def sent_by(make: Callable[[Any], Any], ask: Callable[[Any], Any], *, fast: bool) -> list[Any]:
    """Method, URL and body of the requests that a client sends; each is answered by an error."""
    requests = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        requests.append((request.method, str(request.url), request.content))
        return httpx2.Response(418, json={"error": {"message": "no"}})

    client = make(httpx2.MockTransport(handle))
    if fast:
        prepare(client)

    async def run() -> None:
        try:
            answer = ask(client)
            if inspect.isawaitable(answer):
                await answer
        except Exception as error:
            requests.append((type(error), str(error)))

    asyncio.run(run())
    return requests


def asynchronous(transport: Any) -> AsyncOpenAI:
    http = httpx2.AsyncClient(transport=transport)
    return AsyncOpenAI(base_url="http://a.invalid/v1", api_key="k", http_client=http, max_retries=0)


def blocking(transport: Any) -> OpenAI:
    http = httpx2.Client(transport=transport)
    return OpenAI(base_url="http://a.invalid/v1", api_key="k", http_client=http, max_retries=0)


def assert_same(make: Callable[[Any], Any], ask: Callable[[Any], Any]) -> list[Any]:
    expected = sent_by(make, ask, fast=False)
    assert sent_by(make, ask, fast=True) == expected
    assert len(expected) in (1, 2)
    return expected


def parameters(method: Any) -> dict[str, Any]:
    fields = inspect.signature(method).parameters
    chosen = {name: value_of(name, each) for name, each in fields.items()}
    return {name: value for name, value in chosen.items() if name not in ("messages", "input")}


CHAT = parameters(OpenAI(api_key="k").chat.completions.create)
PARSE = parameters(OpenAI(api_key="k").chat.completions.parse)
PARSE = PARSE | {"response_format": Answer, "tools": [], "functions": []}
RESPONSES = parameters(OpenAI(api_key="k").responses.create)


@pytest.mark.parametrize("make", [asynchronous, blocking])
@pytest.mark.parametrize("name", [*CHAT, "all"])
def test_every_chat_parameter_reaches_the_server_as_before(make: Any, name: str) -> None:
    fields = CHAT if name == "all" else {"model": "m", name: CHAT[name]}
    sent = assert_same(make, lambda c: c.chat.completions.create(messages=HISTORY, **fields))
    assert sent[0][0] == "POST"


@pytest.mark.parametrize("make", [asynchronous, blocking])
@pytest.mark.parametrize("name", [*RESPONSES, "all"])
def test_every_parameter_of_responses_reaches_the_server_as_before(make: Any, name: str) -> None:
    fields = RESPONSES if name == "all" else {"model": "m", name: RESPONSES[name]}
    sent = assert_same(make, lambda c: c.responses.create(input=HISTORY[:2], **fields))
    assert sent[0][0] == "POST"


@pytest.mark.parametrize("make", [asynchronous, blocking])
@pytest.mark.parametrize("name", [*PARSE, "all", "a class as response_format"])
def test_every_parameter_of_parse_reaches_the_server_as_before(make: Any, name: str) -> None:
    fields = PARSE if name == "all" else {"model": "m"}
    if name == "a class as response_format":
        fields |= {"response_format": Answer}
    elif name != "all":
        fields = {**fields, name: PARSE[name]}
    sent = assert_same(make, lambda c: c.chat.completions.parse(messages=HISTORY, **fields))
    assert sent[0][0] == "POST"


UNUSUAL: dict[str, dict[str, Any]] = {
    "a model among dicts": {"messages": [HISTORY[0], SPOKEN, HISTORY[1]]},
    "an iterator": {"messages": (message for message in HISTORY)},
    "a tuple": {"messages": tuple(HISTORY)},
    "tools as a tuple of models": {"messages": HISTORY, "tools": (SPOKEN,)},
    "omitted": {"messages": HISTORY, "temperature": omit, "stop": None},
    "omitted within a message": {"messages": [{"role": "user", "content": "a", "name": omit}]},
    "a number that is no JSON": {"messages": HISTORY, "temperature": float("nan")},
    "no messages": {},
    "an unknown parameter": {"messages": HISTORY, "top_kk": 1},
    "bytes": {"messages": [{"role": "user", "content": b"a"}]},
    "a class as response_format": {"messages": HISTORY, "response_format": Answer},
    "no text": {"messages": "hello"},
    "empty": {"messages": []},
}


@pytest.mark.parametrize("make", [asynchronous, blocking])
@pytest.mark.parametrize("name", UNUSUAL)
def test_other_values_are_converted_by_the_library(make: Any, name: str) -> None:
    def fields() -> dict[str, Any]:
        values = UNUSUAL[name]
        if name == "an iterator":
            values = {"messages": (message for message in HISTORY)}
        return {"model": "m", **values}

    assert_same(make, lambda c: c.chat.completions.create(**fields()))
    if name not in ("a class as response_format",):
        assert_same(make, lambda c: c.chat.completions.create(stream=True, **fields()))


@pytest.mark.parametrize("make", [asynchronous, blocking])
def test_raw_responses_are_the_librarys(make: Any) -> None:
    assert_same(
        make,
        lambda c: c.chat.completions.with_raw_response.create(model="m", messages=HISTORY),
    )


def test_a_changed_message_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the comparison."""
    monkeypatch.setattr(openai_client, "_given", lambda data: {**data, "messages": HISTORY[:1]})
    with pytest.raises(AssertionError):
        assert_same(blocking, lambda c: c.chat.completions.create(model="m", messages=HISTORY))


@pytest.mark.parametrize("make", [asynchronous, blocking])
def test_a_plain_history_is_not_walked(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[Any] = []
    monkeypatch.setattr(openai_client, "maybe_transform", lambda data, kind: walked.append(data))
    monkeypatch.setattr(openai_client, "async_maybe_transform", maybe_walk(walked))
    ask = lambda c: c.chat.completions.create(model="m", messages=HISTORY * 50)  # noqa: E731
    assert sent_by(make, ask, fast=True)[0][0] == "POST"
    assert not walked


def maybe_walk(walked: list[Any]) -> Any:
    async def transform(data: Any, kind: Any) -> Any:
        walked.append(data)
        return data

    return transform
