"""The clients that a workflow gets.

1. Each is the genuine client of its library, and its requests are recorded.
2. LangChain's model works blocking and asynchronous, streamed and not; a blocked call ends when its
   episode ends.
3. Errors are the library's own.
4. The error for a missing library names the command that installs it.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import httpx2
import pytest

from ajet.errors import MissingExtraError
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.gateway.clients.openai_client import BASE_URL, blocking_http_client
from ajet.tuner import AjetTuner
from tests.gateway.gateway_fakes import CALL, TOKENIZER, TOOL, Agent, agent_of, run
from tests.gateway.server_fakes import WAIT_S, HeldEngine, eventually


def tuner_of(agent: Agent, **options: Any) -> AjetTuner:
    """A tuner whose clients lead to the agent's engine and to its record."""
    return AjetTuner(config=None, gateway=agent.session._gateway, record=agent.record, **options)


def langchain_of(agent: Agent) -> Any:
    pytest.importorskip("langchain_openai")
    return tuner_of(agent).as_langchain_model()


def post(agent: Agent, **fields: Any) -> httpx2.Response:
    """Send a blocking request."""
    body = {"messages": [{"role": "user", "content": "hello"}], **fields}
    with blocking_http_client(agent.session) as client:
        return client.post(f"{BASE_URL}/chat/completions", json=body)


# 1. Real clients


def test_the_openai_client_is_the_sdks_own() -> None:
    from openai import AsyncOpenAI

    agent = agent_of(["hi"])
    client = tuner_of(agent).as_raw_openai_sdk_client("solver", "main")
    assert type(client) is AsyncOpenAI

    async def ask() -> Any:
        return await client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "hello"}]
        )

    assert run(ask).choices[0].message.content == "hi"
    (call,) = agent.tracker.calls
    assert (call.agent_name, call.target_tag, call.trained) == ("solver", "main", True)


def test_the_agentscope_model_is_the_librarys_own() -> None:
    """AgentScope 1.x or 2.x, whichever is installed."""
    agentscope = pytest.importorskip("agentscope")
    from agentscope.model import OpenAIChatModel

    agent = agent_of(["hi"])
    model = tuner_of(agent).as_agentscope_model("solver")
    assert type(model) is OpenAIChatModel
    assert not model.stream
    if agentscope.__version__.startswith("1."):
        messages: list[Any] = [{"role": "user", "content": "hello"}]
    else:
        from agentscope.message import UserMsg

        messages = [UserMsg("user", "hello")]
        assert model.context_size == agent.engine.max_model_len
    (block,) = run(lambda: model(messages)).content
    assert (block["text"] if isinstance(block, dict) else block.text) == "hi"
    assert [call.agent_name for call in agent.tracker.calls] == ["solver"]


def test_the_langchain_model_is_the_librarys_own() -> None:
    agent = agent_of(["hi"])
    model = langchain_of(agent)
    from langchain_openai import ChatOpenAI

    assert type(model) is ChatOpenAI
    assert run(lambda: model.ainvoke("hello")).text == "hi"
    assert [call.messages for call in agent.tracker.calls] == [
        [{"role": "user", "content": "hello"}]
    ]


def test_a_blocking_openai_client_works_over_the_base_url() -> None:
    pytest.importorskip("httptools")
    from openai import OpenAI

    agent = agent_of(["hi"])
    http_endpoint = HttpEndpoint()
    endpoint = tuner_of(agent, http_endpoint=http_endpoint).as_oai_baseurl_apikey()
    try:
        with OpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key) as client:
            completion = client.chat.completions.create(
                model=endpoint.model, messages=[{"role": "user", "content": "hello"}]
            )
    finally:
        http_endpoint.close()
    assert completion.choices[0].message.content == "hi"
    assert len(agent.tracker.calls) == 1


def test_after_the_episode_every_client_is_refused() -> None:
    from openai import APIStatusError

    agent = agent_of(["hi"])
    tuner = tuner_of(agent)
    client = tuner.as_raw_openai_sdk_client()
    tuner.close()

    async def ask() -> None:
        await client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "hello"}]
        )

    with pytest.raises(APIStatusError, match="this episode is over"):
        run(ask)
    assert agent.tracker.calls == []


# 2. LangChain


def test_langchains_model_may_block_the_loop_that_the_episode_runs_on() -> None:
    agent = agent_of(["one", "two", "three"])
    model = langchain_of(agent)

    async def scenario() -> list[str]:
        return [
            model.invoke("a").text,
            "".join(chunk.text for chunk in model.stream("b")),
            "".join([chunk.text async for chunk in model.astream("c")]),
        ]

    assert run(scenario) == ["one", "two", "three"]
    assert [call.messages[0]["content"] for call in agent.tracker.calls] == ["a", "b", "c"]


def test_langchains_tool_calls_continue_their_timeline() -> None:
    agent = agent_of([CALL, "A door."])
    model = langchain_of(agent).bind_tools([TOOL])
    from langchain_core.messages import HumanMessage, ToolMessage

    question = HumanMessage("hello")
    first = model.invoke([question])
    (call,) = first.tool_calls
    assert (call["name"], call["args"]) == ("look", {"what": "door"})
    result = ToolMessage("wood", tool_call_id=call["id"])
    assert model.invoke([question, first, result]).text == "A door."
    assert agent.timelines == ["first_call", None]


def test_langchains_own_agent_runs_on_the_model() -> None:
    agent = agent_of([CALL, "A door."])
    model = langchain_of(agent)
    agents = pytest.importorskip("langchain.agents")

    def look(what: str) -> str:
        """Look at it."""
        return f"a {what}"

    graph = agents.create_agent(model, tools=[look], system_prompt="Be brief.")
    state = run(lambda: graph.ainvoke({"messages": [("user", "hello")]}))
    assert state["messages"][-1].text == "A door."
    assert agent.timelines == ["first_call", None]


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_call_ends_with_its_episode(stream: bool) -> None:
    engine = HeldEngine()
    agent = agent_of([], engine=engine)
    raised: list[Exception] = []

    def ask() -> None:
        try:
            post(agent, stream=stream)
        except httpx2.ConnectError as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert eventually(lambda: engine.num_running)
    agent.session.closed = True
    thread.join(WAIT_S)
    assert [str(error) for error in raised] == ["this episode is over"]
    assert eventually(lambda: engine.num_cancelled)
    assert agent.tracker.calls == []


def test_leaving_a_blocking_stream_cancels_its_request() -> None:
    engine = HeldEngine(num_first=9, answer_ids=TOKENIZER.encode("Two words, and more."))
    agent = agent_of([], engine=engine)
    body = {"messages": [{"role": "user", "content": "hello"}], "stream": True}
    with (
        blocking_http_client(agent.session) as client,
        client.stream("POST", f"{BASE_URL}/chat/completions", json=body) as response,
    ):
        chunks = response.iter_bytes()
        assert any(b"Two" in chunk for chunk in chunks)
        assert engine.num_running == 1
    assert eventually(lambda: engine.num_cancelled)
    assert agent.tracker.calls == []


# 3. Errors


def test_a_context_overflow_is_langchains_own_error() -> None:
    agent = agent_of(["hi"])
    agent.engine.max_model_len = 3
    model = langchain_of(agent)
    from openai import BadRequestError

    for ask in (model.invoke, lambda text: run(lambda: model.ainvoke(text))):
        with pytest.raises(BadRequestError) as caught:
            ask("hello")
        assert caught.value.code == "context_length_exceeded"
    assert agent.tracker.calls == []


# 4. What is not installed


@pytest.mark.parametrize(
    ("method", "library", "extra"),
    [
        ("as_langchain_model", "langchain_openai", "langchain"),
        ("as_agentscope_model", "agentscope", "agentscope"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, method: str, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"pip install \"agentjet\[{extra}\]\""):
        getattr(tuner_of(agent_of([])), method)()
