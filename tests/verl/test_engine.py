"""verl's client as an engine, on a client that answers from a list.

1. What is asked for reaches vLLM in its words, with no more tokens than the context has room for.
2. A completion ends in `stop` or `length`, which verl does not tell apart.
3. A replica that fails is an infrastructure fault; a prompt that is too long is the caller's.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("verl")

from ray.exceptions import RayActorError, RayTaskError
from vllm.exceptions import VLLMValidationError

from ajet.backbone.verl.engine import VerlEngine
from ajet.errors import ContextLengthError, EngineError, RequestError
from ajet.schema.episode import Generation, SamplingParams

pytestmark = pytest.mark.verl


class Client:
    """Answers with these tokens, or raises this."""

    def __init__(self, ids: list[int], reason: str = "completed", error: Exception | None = None):
        self.ids, self.reason, self.error = ids, reason, error
        self.asked: dict[str, Any] = {}

    async def generate(self, **asked: Any) -> Any:
        self.asked = asked
        if self.error is not None:
            raise self.error
        return SimpleNamespace(
            token_ids=self.ids,
            log_probs=[-0.5] * len(self.ids),
            stop_reason=self.reason,
            extra_fields={"global_steps": 3},
        )


def generate(client: Client, prompt: int = 4, **params: Any) -> Generation:
    engine = VerlEngine(client, max_model_len=8, policy_version=3)
    asked = SamplingParams(**{"max_tokens": 3, "stop_token_ids": (9,), **params})
    return asyncio.run(engine.generate([1] * prompt, asked, session="episode"))


def test_what_is_asked_for_reaches_vllm():
    client = Client([5, 9])
    generation = generate(client, temperature=0.7, top_k=0, seed=11, stop=("Answer:",))
    assert client.asked["request_id"] == "episode"
    assert client.asked["prompt_ids"] == [1] * 4
    assert client.asked["sampling_params"] == {
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": -1,
        "stop_token_ids": [9],
        "ignore_eos": True,
        "logprobs": True,
        "stop": ["Answer:"],
        "seed": 11,
        "max_tokens": 3,
    }
    assert generation == Generation(
        token_ids=[5, 9], logprobs=[-0.5, -0.5], policy_versions=[3, 3], finish_reason="stop"
    )


@pytest.mark.parametrize(
    ("ids", "prompt", "reason"),
    [([5, 9], 4, "stop"), ([5, 5, 9], 4, "stop"), ([5, 5, 5], 4, "length"), ([5], 7, "length")],
)
def test_a_completion_ends_by_a_stop_token_or_for_lack_of_room(ids, prompt, reason):
    client = Client(ids)
    assert generate(client, prompt).finish_reason == reason
    assert client.asked["sampling_params"]["max_tokens"] == min(3, 8 - prompt)


def test_a_stop_string_ends_a_completion():
    assert generate(Client([5]), stop=("x",)).finish_reason == "stop"


@pytest.mark.parametrize(
    "client", [Client([], error=RayActorError()), Client([], reason="aborted")]
)
def test_a_replica_that_fails_is_an_infrastructure_fault(client):
    with pytest.raises(EngineError, match="verl's vLLM replica"):
        generate(client)


def test_a_prompt_without_room_for_an_answer_is_refused():
    with pytest.raises(ContextLengthError):
        generate(Client([5]), prompt=8)


def test_parameters_that_vllm_refuses_are_the_agents_mistake():
    refusal = VLLMValidationError("temperature must be in [0, 2], got 100.0.")
    error = RayTaskError("generate", "a traceback", refusal)
    with pytest.raises(RequestError, match=r"vLLM refuses the request: temperature must be in"):
        generate(Client([], error=error))
    with pytest.raises(EngineError, match="ValueError"):
        generate(Client([], error=RayTaskError("generate", "a traceback", ValueError("other"))))
