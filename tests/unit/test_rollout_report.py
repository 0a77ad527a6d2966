"""Reports of a rollout: failures with their causes, and metrics.

1. Failed episodes stay in their group as data; too many of them end the run.
2. A failed episode has no reward and is no success; what nothing is known of is no metric.
"""

from __future__ import annotations

from typing import Any

import pytest

from ajet import Workflow, WorkflowOutput
from ajet.errors import TrainingError
from ajet.schema.episode import Episode, Failure, Group
from ajet.schema.task import Task
from ajet.task_rollout.rollout import check_failures, rollout_metrics
from tests.make_samples import make_episode, make_group
from tests.unit.episode_fakes import (
    ANSWER,
    ask,
    query_of,
    rewarded,
    rollout_of,
    tasks_of,
)

pytestmark = pytest.mark.filterwarnings("error")


# Failures.


class FailingForSome(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        await ask(tuner)
        if query_of(workflow_task) < 2:
            raise ValueError(f"tool {query_of(workflow_task)} is broken")
        return rewarded()


def test_a_group_keeps_its_valid_episodes() -> None:
    class SecondFails(Workflow):
        count: int = 0

        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            if workflow_task.episode_uuid == second:
                raise ValueError
            return rewarded()

    second = ""
    clean = rollout_of(SecondFails).run(tasks_of(1), num_repeat=4, tag="x")
    second = clean[0].episodes[1].episode_id
    groups = rollout_of(SecondFails).run(tasks_of(1), num_repeat=4, tag="x")
    assert [episode.repeat_index for episode in groups[0].valid] == [0, 2, 3]
    assert len(groups[0].episodes) == 4


def test_failures_up_to_the_allowed_share_cause_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    groups = rollout_of(FailingForSome, max_failure_share=0.5).run(
        tasks_of(4), num_repeat=2, tag="x"
    )
    assert rollout_metrics(groups)["episode/failed"] == 4
    assert "4 of 8 episodes failed" in caplog.text
    assert "2 x workflow_error: ValueError: tool 0 is broken" in caplog.text


def test_more_failures_stop_the_run_and_name_their_causes() -> None:
    done: list[Episode] = []
    with pytest.raises(TrainingError) as raised:
        rollout_of(FailingForSome, max_failure_share=0.49).run(
            tasks_of(4), num_repeat=2, tag="x", on_episode_done=done.append
        )
    text = str(raised.value)
    assert "4 of 8 episodes failed" in text
    assert "2 x workflow_error: ValueError: tool 1 is broken" in text
    assert "max_failure_share = 0.49" in text
    assert text.count("Traceback (most recent call last)") == 1
    assert len(done) == 8


def test_a_long_list_of_causes_is_shortened() -> None:
    failures = [Failure(kind="judge_error", message=f"cause {i}") for i in range(9)]
    episodes = [
        Episode(episode_id=str(i), task=Task(), repeat_index=i, failure=failure)
        for i, failure in enumerate(failures)
    ]
    with pytest.raises(TrainingError, match="and 4 other causes"):
        check_failures([Group(task=Task(), episodes=episodes)], 0.0)


# Metrics.


def test_metrics_of_a_rollout() -> None:
    class Mixed(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            number = query_of(workflow_task)
            for _ in range(number + 1):
                await ask(tuner, text="x" * 10)
            if number == 3:
                raise ValueError
            return rewarded(number, log_metrics={"number": number} if number else {})

    groups = rollout_of(Mixed).run(tasks_of(4), num_repeat=1, tag="x")
    metrics = rollout_metrics(groups)
    metrics = {name: metrics[name] for name in metrics if not name.startswith("timeline/")}
    num_trained, sampled = 1 + 2 + 3, len(ANSWER)
    assert metrics == {
        "episode/count": 4,
        "episode/failed": 1,
        "episode/success_rate": 0.5,
        "episode/num_calls": 2.5,
        "rollout/retries": 0,
        "reward/mean": 1.0,
        "reward/std": pytest.approx((2 / 3) ** 0.5),
        "reward/min": 0.0,
        "reward/max": 2.0,
        "response/length_mean": sampled,
        "response/length_max": sampled,
        "response/cut_share": 0.0,
        "tokens/calls": num_trained * (10 + sampled),
        "tokens/trained_sequence": num_trained * (10 + sampled),
        "tokens/sampled": num_trained * sampled,
        "tokens/dropped": 4 * sampled,
        "tokens/merge_ratio": 1.0,
        "workflow/number": 1.5,
    }


def test_metrics_without_data_are_left_out() -> None:
    assert "reward/mean" not in rollout_metrics([])
    assert rollout_metrics([])["episode/count"] == 0


def test_each_agent_has_its_own_reward_and_cut_answers_are_counted() -> None:
    episodes = [
        make_episode("e0", {"wolf": 1.0, "seer": -1.0}, agents=("wolf", "seer", "wolf")),
        make_episode("e1", {"wolf": 0.0, "seer": 1.0}, agents=("wolf", "seer")),
        make_episode("e2", 0.5, agents=("seer",)),
    ]
    episodes[0].calls[0].finish_reason = "length"
    metrics = rollout_metrics([make_group(*episodes)])
    assert metrics["reward/agent/wolf"] == 0.5
    assert metrics["reward/agent/seer"] == pytest.approx(0.5 / 3)
    assert metrics["response/cut_share"] == pytest.approx(1 / 6)
    alone = rollout_metrics([make_group(make_episode("e0", 1.0))])
    assert not any(name.startswith("reward/agent/") for name in alone)
