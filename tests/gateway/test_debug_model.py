"""Untrained agents that answer with a debug model.

1. An agent whose tag is not selected answers with its debug model, in every form that it can be
   given. An agent that is selected, or that has no debug model, answers with the policy.
2. Its calls are counted and logged, and never recorded as tokens.
3. The user's key goes to the debug model's server and nowhere else.
4. The debug model's errors reach the agent; if it cannot be reached, the episode may be retried.
"""

from __future__ import annotations

from typing import Any

import pytest

from ajet import Workflow, WorkflowOutput
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.monitor.durable_files import read_json_lines
from ajet.monitor.episode_log import FILE_NAME, EpisodeLog
from ajet.tuner import AjetTuner
from tests.gateway.gateway_fakes import HELLO, Agent, agent_of, run
from tests.gateway.openai_server import KEY, Server
from tests.unit.episode_fakes import ask as ask_policy
from tests.unit.episode_fakes import rewarded, run_episode


def tuner_of(agent: Agent, http_endpoint: HttpEndpoint | None = None) -> AjetTuner:
    """The tuner of a workflow that trains only the tag `main`."""
    return AjetTuner(
        config=None,
        gateway=agent.session._gateway,
        record=agent.record,
        http_endpoint=http_endpoint,
        trainable_targets=["main"],
    )


def ask(client: Any, **fields: Any) -> Any:
    async def scenario() -> Any:
        return await client.chat.completions.create(model="policy", messages=HELLO, **fields)

    return run(scenario)


# 1. Who answers


@pytest.mark.parametrize("form", ["name", "dict", "object"])
def test_an_agent_that_is_not_selected_answers_with_its_debug_model(
    server: Server, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    forms = {"name": "gpt-x", "dict": server.model().model_dump(), "object": server.model()}
    if form == "name":
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
    agent = agent_of(["policy"])
    client = tuner_of(agent).as_raw_openai_sdk_client("critic", "other", forms[form])
    assert ask(client, temperature=0.5).choices[0].message.content == "strange"
    ((path, authorization, body),) = server.requests
    assert (path, authorization) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert body == {"model": "gpt-x", "messages": HELLO, "temperature": 0.5}


def test_an_agent_that_is_selected_ignores_its_debug_model(server: Server) -> None:
    agent = agent_of(["policy"])
    client = tuner_of(agent).as_raw_openai_sdk_client("solver", "main", server.model())
    assert ask(client).choices[0].message.content == "policy"
    assert [call.trained for call in agent.tracker.calls] == [True]
    assert server.requests == []


def test_without_a_debug_model_the_policy_answers_and_is_not_trained() -> None:
    agent = agent_of(["policy"])
    client = tuner_of(agent).as_raw_openai_sdk_client("critic", "other")
    assert ask(client).choices[0].message.content == "policy"
    assert [call.trained for call in agent.tracker.calls] == [False]
    assert agent.tracker.samples() == ([], {})


def test_a_client_of_the_users_own_is_handed_out_as_it_is() -> None:
    tuner = tuner_of(agent_of([]))
    mine: Any = object()
    assert tuner.as_raw_openai_sdk_client("critic", "other", mine) is mine
    assert tuner.debug_calls == {"critic": None}


def test_a_stream_of_the_debug_model_is_a_stream(server: Server) -> None:
    client = tuner_of(agent_of([])).as_raw_openai_sdk_client("critic", "other", server.model())

    async def scenario() -> list[Any]:
        stream = await client.chat.completions.create(model="x", messages=HELLO, stream=True)
        return [chunk.choices[0].delta.content async for chunk in stream]

    assert run(scenario) == ["strange"]


def test_a_blocking_client_reaches_the_debug_model_too(server: Server) -> None:
    pytest.importorskip("langchain_openai")
    tuner = tuner_of(agent_of([]))
    model = tuner.as_langchain_model("critic", "other", server.model())
    assert model.invoke("hello").text == "strange"
    assert [body["model"] for _, _, body in server.requests] == ["gpt-x"]


def test_a_wrong_field_of_a_debug_model_is_an_error() -> None:
    with pytest.raises(ValueError, match="url"):
        tuner_of(agent_of([])).as_raw_openai_sdk_client("critic", "other", {"model": "x", "url": 1})


# 2. What is kept


def test_calls_of_debug_models_are_counted_and_logged_and_never_sampled(
    server: Server, tmp_path: Any
) -> None:
    class Debate(Workflow):
        trainable_targets: list[str] | None = ["solver"]

        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            critic = tuner.as_raw_openai_sdk_client("critic", "critic", server.model())
            tuner.as_raw_openai_sdk_client("judge", "judge", object())
            await ask_policy(tuner, "solver")
            await ask_policy(tuner, "poet")
            for _ in range(2):
                await critic.chat.completions.create(model="policy", messages=HELLO)
            return rewarded({"solver": 1.0})

    episode = run_episode(Debate)
    assert episode.failure is None
    assert [call.agent_name for call in episode.calls] == ["solver", "poet"]
    assert [sample.agent_names for sample in episode.samples] == [("solver",)]
    assert episode.debug_calls == {"critic": 2, "judge": None}
    EpisodeLog(tmp_path).write(1, "train", [episode])
    (line,) = read_json_lines(tmp_path / FILE_NAME)
    assert line["agents"] == {
        "critic": {"debug": 2},
        "judge": {"debug": None},
        "solver": {"trained": 1},
        "poet": {"untrained": 1},
    }


def test_a_reward_may_name_an_agent_that_a_debug_model_answered(server: Server) -> None:
    class Keeps(Workflow):
        trainable_targets: list[str] | None = ["solver"]

        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            keeper = tuner.as_raw_openai_sdk_client("keeper", "keeper", server.model())
            await keeper.chat.completions.create(model="policy", messages=HELLO)
            await ask_policy(tuner, "solver")
            return rewarded({"solver": 1.0, "keeper": 0.0, **self.more})

        more: dict[str, float] = {}

    class NamesNobody(Keeps):
        more: dict[str, float] = {"nobody": 1.0}

    episode = run_episode(Keeps)
    assert episode.failure is None
    assert episode.call_rewards is not None
    assert episode.call_rewards.tolist() == [1.0]
    assert [sample.agent_names for sample in episode.samples] == [("solver",)]
    failure = run_episode(NamesNobody).failure
    assert failure is not None
    assert '"nobody", which made no call; agents with calls: "solver", "keeper"' in failure.message


def test_after_the_episode_the_debug_model_is_not_asked(server: Server) -> None:
    from openai import APIStatusError

    tuner = tuner_of(agent_of([]))
    client = tuner.as_raw_openai_sdk_client("critic", "other", server.model())
    tuner.close()
    with pytest.raises(APIStatusError, match="this episode is over"):
        ask(client)
    assert server.requests == []


# 3. Keys


def test_the_base_url_keeps_the_users_key_to_itself(server: Server) -> None:
    pytest.importorskip("httptools")
    import httpx2

    agent = agent_of([])
    http_endpoint = HttpEndpoint()
    tuner = tuner_of(agent, http_endpoint)
    endpoint = tuner.as_oai_baseurl_apikey("critic", "other", server.model())
    try:
        response = httpx2.post(
            f"{endpoint.base_url}/chat/completions",
            headers={"Authorization": f"Bearer {endpoint.api_key}"},
            json={"model": endpoint.model, "messages": HELLO},
            trust_env=False,
            timeout=60,
        )
    finally:
        http_endpoint.close()
    assert response.json()["choices"][0]["message"]["content"] == "strange"
    assert endpoint.api_key != KEY
    assert server.requests[0][1] == f"Bearer {KEY}"


def test_the_environments_key_goes_to_no_server_that_is_named(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    local = {"model": "gpt-x", "base_url": server.url}
    ask(tuner_of(agent_of([])).as_raw_openai_sdk_client("critic", "other", local))
    assert server.requests[0][1] == "Bearer none"


def test_a_key_is_not_shown(server: Server) -> None:
    assert KEY not in repr(server.model())


# 4. Faults


def test_an_error_of_the_debug_model_is_the_agents(server: Server) -> None:
    from openai import AuthenticationError

    agent = agent_of([])
    server.status = 401
    client = tuner_of(agent).as_raw_openai_sdk_client("critic", "other", server.model())
    with pytest.raises(AuthenticationError, match="no") as caught:
        ask(client)
    assert caught.value.code == "no_key"
    assert agent.record.engine_error is None


def test_where_nobody_answers_the_episode_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    class Asks(Workflow):
        trainable_targets: list[str] | None = []

        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            client = tuner.as_raw_openai_sdk_client("critic", "other", "gpt-without-key")
            await client.chat.completions.create(model="policy", messages=HELLO)
            return rewarded()

    failure = run_episode(Asks).failure
    assert failure is not None
    assert failure.kind == "engine_error"
    assert "debug model gpt-without-key at https://api.openai.com/v1" in failure.message
    assert "OPENAI_API_KEY" in failure.message
