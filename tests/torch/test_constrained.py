"""`rollout.response_format: constrain`: the engine samples only tokens that fit the schema.

1. Every completion that is not cut off is JSON that fits, from a model that never saw such JSON.
2. Each logprob is that of the softmax over the allowed tokens, which a plain forward pass gives
   again; a request without a grammar in the same batch is not affected.
3. The trainer computes the same logprobs again, over several turns and for a sample that is cut
   within a completion; without the grammars it does not.
4. A schema that cannot be compiled is a 400 that names the parameter; so is any schema where the
   engine has no grammars.
5. The warm engine of debug runs enforces schemas, too.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from ajet.backbone.debug.warm_engine.server import CompletionServer
from ajet.backbone.local.policy import LocalPolicy, load_policy
from ajet.backbone.local.trainer import PolicyTrainer
from ajet.config.sections.algorithm import OptimConfig
from ajet.config.sections.model import ModelConfig
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.context_tracker.samples import SampleLimits
from ajet.context_tracker.tracker import ContextTracker, EpisodeRecord
from ajet.engine.base import Engine
from ajet.engine.embedded.engine import EmbeddedEngine
from ajet.engine.vllm.engine import VllmEngine
from ajet.gateway.gateway import AgentSession, Gateway
from ajet.gateway.request import SamplingDefaults
from ajet.schema.episode import Call, Sample
from tests.gateway.gateway_fakes import Agent

MODEL = Path(__file__).parents[2] / "ajet" / "tiny_model" / "calculator"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 2, 3]}},
    "required": ["ok", "n"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "Answer", "schema": SCHEMA}}
QUESTION = [{"role": "user", "content": "What is 12 + 34?"}]


@pytest.fixture(scope="module")
def policy() -> LocalPolicy:
    settings = ModelConfig(path=str(MODEL), renderer="qwen3", enable_thinking=False)
    return load_policy(settings)


@pytest.fixture
def engine(policy: LocalPolicy) -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine(
        policy.model,
        policy.chat_format.tokenizer,
        max_model_len=1024,
        max_num_seqs=8,
        grammars=policy.grammars,
        schedule="continuous",
    )
    yield engine
    asyncio.run(engine.aclose())


def agent_on(policy: LocalPolicy, engine: Engine) -> Agent:
    gateway = Gateway(
        chat_format=policy.chat_format,
        engine=engine,
        defaults=SamplingDefaults(max_tokens=64),
        response_format="constrain",
    )
    record = EpisodeRecord(ContextTracker(policy.chat_format, episode_id="e", task_id="t"))
    session = AgentSession(gateway, record, agent_name="a", target_tag="t", trained=True)
    return Agent(session, record, engine)


def ask(agent: Agent, **body: Any) -> dict[str, Any]:
    body = {"messages": QUESTION, "response_format": FORMAT, **body}
    return asyncio.run(agent.chat(**body))


def logprobs_again(policy: LocalPolicy, call: Call) -> np.ndarray:
    """[C] of a first call's completion, from a plain forward pass and the allowed tokens."""
    prompt, completion = call.delta_ids.tolist(), call.completion_ids.tolist()
    with torch.no_grad():
        ids = torch.tensor([prompt + completion])
        logits = policy.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    if call.grammar:
        allowed = policy.grammars.allowed_along(call.grammar, call.completion_ids)
        logits = logits.masked_fill(torch.from_numpy(~allowed), -torch.inf)
    logprobs = (logits / call.temperature).log_softmax(-1)
    return logprobs.gather(1, ids[0, len(prompt) :, None])[:, 0].numpy()


@pytest.mark.parametrize("temperature", [0.0, 0.7, 2.0])
def test_completions_fit_and_have_the_logprobs_of_the_allowed_tokens(
    policy: LocalPolicy, engine: EmbeddedEngine, temperature: float
) -> None:
    agent = agent_on(policy, engine)

    async def all_at_once() -> list[dict[str, Any]]:
        constrained = [
            agent.chat(
                messages=QUESTION, response_format=FORMAT, seed=seed, temperature=temperature
            )
            for seed in range(6)
        ]
        free = [agent.chat(messages=QUESTION, max_tokens=9, temperature=temperature)]
        return await asyncio.gather(*constrained, *free)

    answers = asyncio.run(all_at_once())
    for answer in answers[:-1]:
        choice = answer["choices"][0]
        assert choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
    calls = agent.tracker.calls
    assert [bool(call.grammar) for call in calls] == [True] * 6 + [False]
    for call in calls:
        assert np.abs(logprobs_again(policy, call) - call.logprobs).max() < 1e-5


def test_the_same_model_does_not_fit_by_itself(policy: LocalPolicy, engine: EmbeddedEngine) -> None:
    agent = agent_on(policy, engine)
    answer = ask(agent, response_format=None)
    with pytest.raises(ValueError):
        json.loads(answer["choices"][0]["message"]["content"])


def trained(policy: LocalPolicy, samples: list[Sample]) -> dict[str, float]:
    """The metrics of one update with a learning rate that changes nothing."""
    for sample in samples:
        sample.advantages = np.where(sample.loss_mask, np.float32(1), np.float32(0))
    settings = TrainerCommonConfig(optim=OptimConfig(lr=1e-12), use_kl_loss=True, kl_loss_coef=0.1)
    trainer = PolicyTrainer(policy.model, settings, total_steps=1, grammars=policy.grammars)
    return trainer.update(samples, step=1, policy_version=0)


@pytest.mark.parametrize("limit", [None, 5])
def test_the_trainer_computes_the_logprobs_again(
    policy: LocalPolicy, engine: EmbeddedEngine, limit: int | None
) -> None:
    agent = agent_on(policy, engine)
    messages = list(QUESTION)
    for _ in range(2):
        answer = ask(agent, messages=messages)
        messages += [answer["choices"][0]["message"], *QUESTION]
    ask(agent, messages=messages, response_format={"type": "text"})
    samples, _ = agent.tracker.samples(SampleLimits(max_response_length=limit))
    assert [len(sample.grammars) for sample in samples][0] == (1 if limit == 5 else 2)
    metrics = trained(policy, samples)
    assert metrics["policy/logprob_diff_max"] < 1e-5
    assert metrics["policy/kl"] == pytest.approx(0.0, abs=1e-6)
    assert np.isfinite(metrics["policy/entropy"])
    for sample in samples:
        sample.grammars = ()
    assert trained(policy, samples)["policy/logprob_diff_max"] > 0.1


def test_thinking_and_tool_calls_stay_possible(policy: LocalPolicy, engine: EmbeddedEngine) -> None:
    settings = ModelConfig(path=str(MODEL), renderer="qwen3", enable_thinking=True)
    thinking = load_policy(settings)
    calculator = {"type": "function", "function": {"name": "calculator", "parameters": {}}}
    agent = agent_on(thinking, engine)
    for seed in range(4):
        answer = ask(agent, tools=[calculator], seed=seed, temperature=1.5, max_tokens=200)
        assert "choices" in answer, answer
    for call in agent.tracker.calls:
        first = thinking.chat_format.tokenizer.decode(int(call.completion_ids[0]))
        assert first.lstrip()[0] in "{<"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}, "regex"),
        ({"type": "nothing"}, "type"),
        ({"not": {"type": "object"}}, "not"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused(
    policy: LocalPolicy, engine: EmbeddedEngine, schema: dict[str, Any], words: str
) -> None:
    agent = agent_on(policy, engine)
    format_ = {"type": "json_schema", "json_schema": {"name": "Answer", "schema": schema}}
    error = ask(agent, response_format=format_)["error"]
    assert error["param"] == "response_format"
    assert "rollout.response_format: prompt" in error["message"]
    assert words in error["message"]
    assert agent.tracker.calls == []


def test_an_engine_without_grammars_refuses(policy: LocalPolicy) -> None:
    engine = EmbeddedEngine(policy.model, policy.chat_format.tokenizer, max_model_len=512)
    try:
        error = ask(agent_on(policy, engine))["error"]
        assert error["param"] == "response_format"
    finally:
        asyncio.run(engine.aclose())


def test_an_answer_whose_beginning_is_given_is_refused(
    policy: LocalPolicy, engine: EmbeddedEngine
) -> None:
    messages = [*QUESTION, {"role": "assistant", "content": '{"ok":'}]
    error = ask(agent_on(policy, engine), messages=messages, continue_final_message=True)["error"]
    assert "whose beginning is given" in error["message"]


def test_a_warm_engine_enforces_schemas(policy: LocalPolicy, engine: EmbeddedEngine) -> None:
    with CompletionServer(engine, "key") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        remote = VllmEngine(urls=[server.url], api_key="key", max_model_len=1024)
        try:
            agent = agent_on(policy, remote)
            answer = ask(agent)
            jsonschema.validate(json.loads(answer["choices"][0]["message"]["content"]), SCHEMA)
            wrong = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}
            assert "schema" in ask(agent, response_format=wrong)["error"]["message"]
        finally:
            asyncio.run(remote.aclose())
            server.shutdown()
            thread.join()
