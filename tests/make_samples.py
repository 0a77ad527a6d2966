"""Samples, episodes and groups for tests of credit and training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ajet.schema.episode import Call, Episode, Failure, Group, Sample
from ajet.schema.task import Task


def make_sample(
    ids: Sequence[int],
    trained: Sequence[int],
    *,
    episode_id: str = "e0",
    advantage: float = 1.0,
    logprob: float | Sequence[float] = -1.0,
    policy_version: int = 0,
    temperature: float = 1.0,
    call_index: int = 0,
) -> Sample:
    """A sample whose tokens at the positions `trained` have loss; `logprob` is one or [trained]."""
    mask = np.zeros(len(ids), dtype=bool)
    mask[list(trained)] = True
    logprobs = np.zeros(len(ids), dtype=np.float32)
    logprobs[mask] = logprob
    return Sample(
        episode_id=episode_id,
        task_id="t0",
        agent_names=("agent",),
        ids=np.array(ids, dtype=np.int32),
        loss_mask=mask,
        logprobs=logprobs,
        call_index=np.where(mask, call_index, -1).astype(np.int32),
        policy_versions=np.where(mask, policy_version, -1).astype(np.int32),
        temperature=np.where(mask, temperature, 1).astype(np.float32),
        advantages=np.where(mask, advantage, 0).astype(np.float32),
    )


def make_call(index: int, agent_name: str = "agent") -> Call:
    """A call with a prompt of three tokens and a completion of two."""
    return Call(
        call_id=f"c{index}",
        index=index,
        agent_name=agent_name,
        target_tag=agent_name,
        trained=True,
        parent_id=None,
        new_timeline="first_call",
        prompt_length=3,
        delta_ids=np.array([1, 2, 3], np.int32),
        completion_ids=np.array([4, 5], np.int32),
        logprobs=np.full(2, -1.0, np.float32),
        policy_versions=np.zeros(2, np.int32),
        temperature=1.0,
        finish_reason="stop",
    )


def make_episode(
    episode_id: str,
    reward: float | Sequence[float] | dict[str, float],
    *,
    agents: Sequence[str] = ("agent",),
) -> Episode:
    """An episode with one call, and one sample, of each of `agents`, in their order."""
    calls = [make_call(index, name) for index, name in enumerate(agents)]
    episode = Episode(episode_id=episode_id, task=Task(task_id="t0"), repeat_index=0, calls=calls)
    if isinstance(reward, dict):
        episode.reward_per = "agent"
        episode.call_rewards = np.array([reward[name] for name in agents], dtype=np.float64)
        episode.reward = float(np.mean(list(reward.values())))
    elif isinstance(reward, (int, float)):
        episode.call_rewards = np.full(len(calls), float(reward))
        episode.reward = float(reward)
    else:
        episode.reward_per = "call"
        episode.call_rewards = np.array(reward, dtype=np.float64)
        episode.reward = float(np.mean(episode.call_rewards))
    for index in range(len(calls)):
        sample = make_sample([1, 2, 3, 4, 5], [3, 4], episode_id=episode_id, call_index=index)
        sample.advantages = None
        episode.samples.append(sample)
    return episode


def make_failed_episode(episode_id: str) -> Episode:
    """An episode that has no reward."""
    failure = Failure(kind="timeout", message="took too long")
    return Episode(episode_id=episode_id, task=Task(task_id="t0"), repeat_index=0, failure=failure)


def make_group(*episodes: Episode) -> Group:
    """The episodes of one task."""
    return Group(task=Task(task_id="t0"), episodes=list(episodes))
