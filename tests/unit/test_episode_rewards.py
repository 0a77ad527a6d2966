"""What an episode earns.

1. A reward per episode, agent or call is spread over the calls; a wrong one is `invalid_output`.
2. The judge is asked where the workflow gives none; its own faults are `judge_error`.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest

from ajet import Workflow, WorkflowOutput
from ajet.task_judge.base_judge import BaseJudge
from tests.unit.episode_fakes import (
    ANSWER,
    FixedJudge,
    ask,
    assert_failed,
    returning,
    rewarded,
    run_episode,
)

pytestmark = pytest.mark.filterwarnings("error")


# A reward.


def test_a_good_episode_has_calls_samples_and_reward() -> None:
    episode = run_episode(
        returning(rewarded(0.5, metadata={"a": 1}, log_metrics={"turns": 2.0}), agents=("a", "b"))
    )
    assert episode.failure is None
    assert episode.reward == 0.5
    assert [call.agent_name for call in episode.calls] == ["a", "b"]
    assert episode.call_rewards is not None
    assert episode.call_rewards.tolist() == [0.5, 0.5]
    assert sum(sample.num_trained for sample in episode.samples) == 2 * len(ANSWER)
    assert episode.metadata == {"a": 1}
    assert episode.log_metrics == {"turns": 2.0}
    assert episode.started_s <= episode.ended_s


@pytest.mark.parametrize(
    ("reward", "agents", "mean", "per_call", "per"),
    [
        (2, "aba", 2.0, [2, 2, 2], "episode"),
        ([1.0, 0.0, 0.5], "aba", 0.5, [1, 0, 0.5], "call"),
        ({"a": 1.0, "b": 0.0}, "aba", 0.5, [1, 0, 1], "agent"),
    ],
)
def test_a_reward_is_spread_over_the_calls(
    reward: Any, agents: str, mean: float, per_call: list[float], per: str
) -> None:
    episode = run_episode(returning(rewarded(reward), agents=agents))
    assert (episode.reward, episode.reward_per) == (mean, per)
    assert episode.call_rewards is not None
    assert episode.call_rewards.dtype == np.float64
    assert episode.call_rewards.tolist() == per_call


def test_an_agent_that_is_not_trained_may_go_without_reward() -> None:
    class OnlyA(Workflow):
        trainable_targets: list[str] | None = ["a"]

        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            await ask(tuner, "a")
            await ask(tuner, "b")
            return rewarded({"a": 1.0})

    episode = run_episode(OnlyA)
    assert episode.failure is None
    assert [call.trained for call in episode.calls] == [True, False]
    assert [sample.agent_names for sample in episode.samples] == [("a",)]


@pytest.mark.parametrize(("reward", "success"), [(0.1, True), (0.0, False), (-1.0, False)])
def test_without_is_success_a_reward_above_0_is_one(reward: float, success: bool) -> None:
    assert run_episode(returning(rewarded(reward))).is_success is success


def test_is_success_of_the_workflow_counts() -> None:
    assert run_episode(returning(rewarded(0.3, is_success=False))).is_success is False


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ["returned None", "return a WorkflowOutput"]),
        (1.0, ["returned a float", "return a WorkflowOutput"]),
        (rewarded(math.nan), ["nan"]),
        (rewarded(math.inf), ["inf"]),
        (rewarded([1.0]), ["list of 1", "2 tracked calls"]),
        (rewarded([1.0, math.nan]), ["call 1", "nan"]),
        (rewarded({"agent": 1.0, "stranger": 1.0}), ['"stranger"', '"agent"']),
        (rewarded({"agent": math.nan}), ['"agent"', "nan"]),
        (rewarded({}), ["leaves out", '"agent"']),
        (rewarded(None), ["no reward", "no judge"]),
        (rewarded(1.0, log_metrics={"x": math.nan}), ['log_metrics["x"]']),
    ],
)
def test_an_unusable_output_is_invalid(value: Any, words: list[str]) -> None:
    episode = run_episode(returning(value, agents=("agent", "agent")))
    assert_failed(episode, "invalid_output", *words)
    assert len(episode.calls) == 2


def test_an_empty_list_of_rewards_says_nothing() -> None:
    assert_failed(run_episode(returning(rewarded([]), agents=())), "invalid_output", "empty reward")


# The judge.


def test_the_judge_is_asked_only_where_there_is_no_reward() -> None:
    judge = FixedJudge((0.25, True))
    episode = run_episode(returning(rewarded(None)), judge=judge)
    assert (episode.reward, episode.is_success) == (0.25, True)
    run_episode(returning(rewarded(1.0)), judge=judge)
    assert len(judge.outputs) == 1


def test_a_judge_may_be_async() -> None:
    class Slow(BaseJudge):
        async def compute_reward(self, workflow_task: Any, workflow_output: Any) -> Any:
            await asyncio.sleep(0)
            return 1.0, False

    episode = run_episode(returning(rewarded(None)), judge=Slow(None))
    assert (episode.reward, episode.is_success) == (1.0, False)


@pytest.mark.parametrize(
    ("verdict", "word"),
    [
        (ValueError("no key"), "ValueError: no key"),
        ((math.nan, True), "nan"),
        (1.0, "expected (reward, is_success)"),
        (None, "expected (reward, is_success)"),
    ],
)
def test_a_failing_judge_is_a_judge_error(verdict: Any, word: str) -> None:
    episode = run_episode(returning(rewarded(None, metadata={"a": 1})), judge=FixedJudge(verdict))
    assert_failed(episode, "judge_error", word)
    assert episode.metadata == {"a": 1}


def test_metrics_of_a_workflow_may_be_lists_and_dicts() -> None:
    given = {"turns": 2, "times": [1.0, 3.0], "none": [], "tools": {"calls": 4, "ms": [2, 4]}}
    episode = run_episode(
        returning(rewarded(0.5, log_metrics={**given, "deep": {"a": {"b": 1.0}}}))
    )
    assert episode.log_metrics == {
        "turns": 2.0,
        "times": 2.0,
        "tools/calls": 4.0,
        "tools/ms": 3.0,
        "deep/a/b": 1.0,
    }
