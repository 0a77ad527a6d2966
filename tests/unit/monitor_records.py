"""Example episodes and metrics of the calculator agent, for tests of `ajet.monitor`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ajet.schema.episode import Call, Episode, Sample
from ajet.schema.task import Task

SYSTEM = "Use the calculator, one operation per call. Then give Answer: number"
QUERY = "Ann has 73 apples, loses 7, loses 17. How many now?"


def tool_call(expression: str) -> dict[str, object]:
    """An assistant message that calls the calculator."""
    arguments = f'{{"expression": "{expression}"}}'
    function = {"name": "calculator", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"function": function}]}


def make_call(
    index: int,
    messages: list[dict[str, object]],
    response: dict[str, object],
    *,
    parent: Call | None = None,
    agent_name: str = "solver",
    completion: int = 5,
) -> Call:
    """A call that continues `parent`, with `3 + completion` new tokens."""
    before = parent.prompt_length + len(parent.completion_ids) if parent else 0
    return Call(
        call_id=f"call-{index}",
        index=index,
        agent_name=agent_name,
        target_tag=agent_name,
        trained=True,
        parent_id=parent.call_id if parent else None,
        new_timeline=None if parent else "first_call",
        prompt_length=before + 3,
        delta_ids=np.arange(3, dtype=np.int32),
        completion_ids=np.arange(completion, dtype=np.int32),
        logprobs=np.full(completion, -0.5, np.float32),
        policy_versions=np.zeros(completion, np.int32),
        temperature=1.0,
        finish_reason="stop",
        messages=messages,
        response=response,
        started_s=1000.0 + index,
        ended_s=1000.5 + index,
    )


def make_sample(episode_id: str, calls: Sequence[Call]) -> Sample:
    """The merged timeline of calls that continue each other."""
    last = calls[-1]
    length = last.prompt_length + len(last.completion_ids)
    sample = Sample(
        episode_id=episode_id,
        task_id="calculator-1",
        agent_names=tuple(dict.fromkeys(call.agent_name for call in calls)),
        ids=np.arange(length, dtype=np.int32),
        loss_mask=np.zeros(length, np.bool_),
        logprobs=np.zeros(length, np.float32),
        call_index=np.full(length, -1, np.int32),
        policy_versions=np.full(length, -1, np.int32),
        temperature=np.ones(length, np.float32),
    )
    for call in calls:
        here = slice(call.prompt_length, call.prompt_length + len(call.completion_ids))
        sample.loss_mask[here], sample.call_index[here] = True, call.index
        sample.logprobs[here], sample.policy_versions[here] = call.logprobs, call.policy_versions
    return sample


def make_episode(*, solved: bool = True, repeat_index: int = 0) -> Episode:
    """One episode of the calculator agent: three calls if solved, one guess if not."""
    opening = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUERY}]
    if solved:
        first = make_call(0, opening, tool_call("73 - 7"))
        second = make_call(
            1, [{"role": "tool", "content": "66"}], tool_call("66 - 17"), parent=first
        )
        answer = {"role": "assistant", "content": "Answer: 49"}
        third = make_call(2, [{"role": "tool", "content": "49"}], answer, parent=second)
        calls = [first, second, third]
    else:
        calls = [make_call(0, opening, {"role": "assistant", "content": "Answer: 63"})]
    episode_id = f"episode-{repeat_index}-{solved}"
    return Episode(
        episode_id=episode_id,
        task=Task(main_query=QUERY, task_id="calculator-1"),
        repeat_index=repeat_index,
        calls=calls,
        samples=[make_sample(episode_id, calls)],
        reward=float(solved),
        is_success=solved,
        started_s=1000.0,
        ended_s=1004.0,
    )


def train_metrics(step: int) -> dict[str, float]:
    """Metrics of a training step."""
    success = 0.93 - 0.66 * math.exp(-step / 5) + 0.03 * math.sin(7 * step)
    return {
        "reward/mean": success,
        "reward/std": math.sqrt(success * (1 - success)),
        "episode/success_rate": success,
        "episode/count": 128,
        "episode/failed": 2 if step == 3 else 0,
        "episode/num_calls": 3.3,
        "group/zero_variance": 0.06 + 0.02 * step,
        "policy/loss": -0.012,
        "policy/entropy": 0.8 / step,
        "policy/kl": 0.00042,
        "policy/grad_norm": 0.61,
        "policy/clip_fraction": 0.013,
        "policy/logprob_diff_max": 2.1e-6,
        "policy/logprob_diff_mean": 3.2e-7,
        "staleness/mean": 0.0,
        "tokens/calls": 57344,
        "tokens/trained_sequence": 21504,
        "tokens/sampled": 12800,
        "tokens/dropped": 0,
        "tokens/merge_ratio": 57344 / 21504,
        "rollout/tokens_per_s": 3512.0,
        "train/tokens_per_s": 10230.0,
        "time/step_s": 3.9,
        "time/rollout_s": 2.0,
        "time/train_s": 1.8,
        "time/sync_s": 0.1,
    }


def eval_metrics(step: int) -> dict[str, float]:
    """Metrics of an evaluation."""
    success = 0.92 - 0.65 * math.exp(-step / 5)
    return {
        "eval/success_rate": success,
        "eval/greedy_success_rate": min(1.0, success + 0.08),
        "eval/reward_mean": success,
        "time/eval_s": 2.4,
    }
