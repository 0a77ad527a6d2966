"""The client side of vLLM, against servers that fail on command.

1. Token ids and logprobs are returned unchanged; only the request's own stops end a completion.
2. An episode stays with its server; episodes spread over the servers.
3. The episodes of a lost server continue at another one at once. (Its restart: tests/vllm.)
4. New weights: running calls end first, new calls wait, every server loads them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ajet.engine.vllm.engine import VllmEngine
from ajet.errors import ContextLengthError, EngineError, RequestError
from ajet.schema.episode import Generation, SamplingParams
from tests.gateway.fake_vllm import FakeVllm, fakes
from tests.gateway.server_fakes import WAIT_S, eventually


@pytest.fixture
def two():
    with fakes(2) as servers:
        engine = VllmEngine(urls=[server.base_url for server in servers])
        yield engine, servers
        asyncio.run(engine.aclose())


def ask(engine: VllmEngine, session: str = "e", count: int = 4, **options: Any) -> Any:
    params = SamplingParams(max_tokens=count, **options)
    return engine.generate([5, 6, 7], params, session=session)


def test_ids_and_logprobs_come_through(two):
    engine, servers = two
    answer = asyncio.run(ask(engine, stop=("x",), stop_token_ids=(2,), temperature=0.7, seed=9))
    assert answer == Generation(
        token_ids=[1, 2, 3, 4],
        logprobs=[-0.5] * 4,
        policy_versions=[0] * 4,
        finish_reason="length",
    )
    [body] = servers[0].requests + servers[1].requests
    sent = {"prompt": [5, 6, 7], "stop": ["x"], "stop_token_ids": [2], "temperature": 0.7}
    assert sent.items() <= body.items()
    assert body["seed"] == 9 and body["ignore_eos"] and not body["skip_special_tokens"]


def test_a_stream_tells_of_each_token_in_order(two):
    engine, _ = two
    emitted: list[tuple[int, float]] = []
    params = SamplingParams(max_tokens=3)
    answer = asyncio.run(
        engine.generate(
            [5],
            params,
            session="e",
            on_token=lambda token, logprob: emitted.append((token, logprob)),
        )
    )
    assert emitted == list(zip(answer.token_ids, answer.logprobs, strict=True))
    assert answer.token_ids == [1, 2, 3] and answer.finish_reason == "length"


def test_a_prompt_without_room_is_refused_before_it_is_sent(two):
    engine, servers = two
    with pytest.raises(ContextLengthError):
        asyncio.run(engine.generate([1] * 64, SamplingParams(max_tokens=1), session="e"))
    assert not servers[0].requests + servers[1].requests
    asyncio.run(engine.generate([1] * 60, SamplingParams(max_tokens=100), session="e"))
    assert (servers[0].requests + servers[1].requests)[0]["max_tokens"] == 4


def test_an_episode_stays_with_its_server_and_episodes_spread(two):
    engine, servers = two

    async def episodes() -> None:
        for _ in range(3):
            for name in "abcd":
                await ask(engine, session=name)

    asyncio.run(episodes())
    assert [len(server.requests) for server in servers] == [6, 6]
    for name in "abcd":
        engine.close_session(name)
    asyncio.run(ask(engine, session="new"))  # a closed episode weighs nothing
    assert sorted(len(server.requests) for server in servers) == [6, 7]


def home_of(engine: VllmEngine, servers: list[FakeVllm]) -> tuple[FakeVllm, FakeVllm]:
    """The server that the episode "e" is at, and the other."""
    asyncio.run(ask(engine))
    return (servers[0], servers[1]) if servers[0].requests else (servers[1], servers[0])


def test_the_episodes_of_a_lost_server_go_on_at_another(two, caplog):
    engine, servers = two
    home, other = home_of(engine, servers)
    home.breaks = True
    assert asyncio.run(ask(engine)).token_ids == [1, 2, 3, 4]
    assert len(other.requests) == 1
    assert eventually(lambda: "engine core is dead" in caplog.text), "its end is not in the log"


def test_a_stream_that_breaks_off_is_not_begun_again(two):
    engine, servers = two
    home, other = home_of(engine, servers)
    home.breaks = True
    emitted: list[int] = []
    with pytest.raises(EngineError, match="a completion ended with None"):
        asyncio.run(
            engine.generate(
                [5],
                SamplingParams(max_tokens=8),
                session="e",
                on_token=lambda token, _: emitted.append(token),
            )
        )
    assert emitted == [1, 2] and not other.requests


def test_without_servers_a_call_says_why():
    with fakes(1) as [server]:
        engine = VllmEngine(urls=[server.base_url])
        server.breaks = True
        with pytest.raises(EngineError, match=r"no vLLM server is left: .*engine core is dead"):
            asyncio.run(ask(engine))
        asyncio.run(engine.aclose())


def test_every_server_takes_new_weights_and_then_calls_have_the_new_version(two):
    engine, servers = two
    asyncio.run(engine.update_weights(Path("/weights/1"), 1))
    assert [server.loaded for server in servers] == [["/weights/1"], ["/weights/1"]]
    assert asyncio.run(ask(engine)).policy_versions == [1] * 4


async def arrival(*servers: FakeVllm) -> None:
    """Wait until a request for a completion has come to one of them."""
    async with asyncio.timeout(WAIT_S):
        while not any(server.requests for server in servers):
            await asyncio.sleep(0.01)


def test_calls_under_way_end_with_the_version_they_began_with(two):
    engine, servers = two
    for server in servers:
        server.goes_on.clear()

    async def both() -> tuple[Generation, Generation]:
        first = asyncio.create_task(ask(engine))
        await arrival(*servers)
        update = asyncio.create_task(engine.update_weights(Path("/weights/1"), 1))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(ask(engine))
        await asyncio.sleep(0.05)
        # The first call is still under way.
        assert not servers[0].loaded + servers[1].loaded
        assert len(servers[0].requests + servers[1].requests) == 1
        for server in servers:
            server.goes_on.set()
        await update
        return await first, await second

    first, second = asyncio.run(both())
    assert (first.policy_versions[0], second.policy_versions[0]) == (0, 1)


def test_an_update_waits_no_longer_than_its_limit():
    with fakes(1) as [server]:
        engine = VllmEngine(urls=[server.base_url], update_timeout_s=0.2)
        server.goes_on.clear()

        async def late() -> None:
            call = asyncio.create_task(ask(engine))
            await arrival(server)
            with pytest.raises(EngineError, match="1 calls were still running"):
                await engine.update_weights(Path("/weights/1"), 1)
            call.cancel()

        asyncio.run(late())
        assert engine.policy_version == 0
        asyncio.run(engine.aclose())


def test_a_server_without_our_extension_is_not_touched():
    with fakes(1) as [server]:
        server.server_info = {"worker_extension_cls": ""}
        engine = VllmEngine(urls=[server.base_url])
        with pytest.raises(EngineError, match="--worker-extension-cls"):
            asyncio.run(engine.update_weights(Path("/weights/1"), 1))
        assert not server.loaded
        asyncio.run(engine.aclose())


def test_a_connection_that_breaks_is_no_lost_server_but_its_weights_are_sent_again():
    with fakes(1) as [server]:
        engine = VllmEngine(urls=[server.base_url])
        asyncio.run(engine.update_weights(Path("/weights/1"), 1))
        server.failures = 1
        assert asyncio.run(ask(engine)).policy_versions == [1] * 4
        assert server.loaded == ["/weights/1", "/weights/1"]
        asyncio.run(engine.aclose())


def test_a_server_that_lives_but_never_answers_is_asked_a_few_times_only():
    with fakes(1) as [server]:
        engine = VllmEngine(urls=[server.base_url])
        server.failures = 100
        with pytest.raises(EngineError, match="no vLLM server answers, 4 times"):
            asyncio.run(ask(engine))
        assert len(server.requests) == 4
        asyncio.run(engine.aclose())


def test_parameters_that_vllm_refuses_are_the_agents_mistake_and_asked_for_once(two):
    engine, servers = two
    with pytest.raises(RequestError, match="vLLM refuses the request: List should have") as caught:
        asyncio.run(ask(engine, stop=("x",) * 10_000))
    assert caught.value.status == 400
    assert sum(len(server.requests) for server in servers) == 1
    with pytest.raises(RequestError, match="vLLM refuses"):
        params = SamplingParams(max_tokens=4, stop=("x",) * 10_000)
        asyncio.run(engine.generate([5], params, session="e", on_token=lambda *_: None))
