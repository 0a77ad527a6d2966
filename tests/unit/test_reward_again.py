"""Recorded episodes are rewarded as a run would reward them now.

1. Where the workflow gave a reward, that one, unless the judge is to be asked always.
2. Else the judge's: plain or asynchronous. What it raises is that episode's `judge_error`.
3. Episodes that failed before they could be rewarded stay as they are.
"""

from __future__ import annotations

from typing import Any

import pytest

from ajet.replay.rescore import Rescorer
from ajet.schema.episode import Episode, Failure
from ajet.schema.task import Task, WorkflowOutput
from ajet.task_judge.base_judge import BaseJudge
from tests.unit.episode_fakes import FixedJudge
from tests.unit.monitor_records import make_episode


class AsyncJudge(BaseJudge):
    async def compute_reward(self, workflow_task: Any, workflow_output: Any) -> Any:
        return workflow_task.task.metadata["reward"], workflow_output.metadata["right"]


def again(episode: Episode, judge: BaseJudge | None, *, asks_always: bool = False) -> Episode:
    reward = Rescorer(judge=judge, asks_always=asks_always, task_tag="train/000001")
    (after,) = reward.rewarded([episode], num_threads=2)
    return after


def episode_of(**fields: Any) -> Episode:
    episode = make_episode()
    for name, value in fields.items():
        setattr(episode, name, value)
    return episode


def test_the_workflows_own_reward_is_spread_again() -> None:
    episode = episode_of(output=WorkflowOutput(reward=[0.0, 1.0, 0.5]))
    after = again(episode, FixedJudge((9.0, True)))
    assert (after.reward, after.reward_per, after.is_success) == (0.5, "call", True)
    assert after.call_rewards is not None
    assert after.call_rewards.tolist() == [0.0, 1.0, 0.5]


def test_another_judge_may_be_asked_for_every_episode() -> None:
    episode = episode_of(output=WorkflowOutput(reward=1.0))
    after = again(episode, FixedJudge((-1.0, True)), asks_always=True)
    assert (after.reward, after.is_success) == (-1.0, True)


def test_an_asynchronous_judge_gets_task_and_output_as_they_were() -> None:
    task = Task(task_id="t", metadata={"reward": 0.25})
    episode = episode_of(final_task=task, output=WorkflowOutput(metadata={"right": False}))
    after = again(episode, AsyncJudge(None))
    assert (after.reward, after.is_success) == (0.25, False)


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (FixedJudge(KeyError("answer")), "KeyError: 'answer'"),
        (FixedJudge(0.5), "EpisodeError: the judge returned 0.5, expected (reward, is_success)"),
        (FixedJudge((float("nan"), True)), "EpisodeError: the reward is nan"),
        (None, "EpisodeError: the workflow gave no reward and there is no judge"),
    ],
)
def test_a_judge_that_fails_is_that_episodes_failure(judge: Any, message: str) -> None:
    after = again(episode_of(), judge)
    assert after.failure is not None
    assert after.failure.kind == "judge_error"
    assert after.failure.message.startswith(message)
    assert (after.reward, after.call_rewards, after.is_success) == (None, None, None)


def test_an_episode_that_its_judge_failed_can_be_judged_again() -> None:
    episode = episode_of(failure=Failure(kind="judge_error", message="x"), reward=None)
    after = again(episode, FixedJudge((1.0, True)))
    assert (after.failure, after.reward) == (None, 1.0)


def test_an_episode_that_failed_before_stays_as_it_is() -> None:
    episode = episode_of(failure=Failure(kind="timeout", message="30 s"), reward=None)
    assert again(episode, FixedJudge((1.0, True)), asks_always=True) is episode
