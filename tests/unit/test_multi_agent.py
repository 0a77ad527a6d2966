"""Credit among several agents, from what a workflow returns to the advantage of each token.

Two episodes of one task. In each, a solver (tag `main`, trained), a critic (tag `other`, not
trained) and the solver again make a call. Advantages are reward - mean (`dr_grpo`), exactly:

1. Reward per episode: each token of the solver has the episode's advantage.
2. Reward per agent: the solver is compared with itself; what the critic earned does not matter.
3. Reward per call: each call's own reward against the mean of the solver's calls, one an episode.
4. Nothing that the critic sampled has loss, whatever it earned; with all tags selected it has.
"""

from __future__ import annotations

from typing import Any

import pytest

from ajet import Workflow, WorkflowOutput
from ajet.algorithm.credit import credit
from ajet.algorithm.dr_grpo import dr_grpo
from ajet.schema.episode import Episode, Group
from tests.unit.episode_fakes import ANSWER, rewarded, rollout_of, tasks_of

Rewards = list[float] | list[dict[str, float]] | list[list[float]]


def debate(rewards: Rewards, targets: list[str] | None = ["main"]) -> list[Episode]:  # noqa: B006
    """Two episodes that earn `rewards`, one after the other, with their advantages."""
    to_give: list[Any] = list(rewards)

    class Debate(Workflow):
        trainable_targets: list[str] | None = targets

        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            solver = tuner.as_raw_openai_sdk_client("solver", target_tag="main")
            critic = tuner.as_raw_openai_sdk_client("critic", target_tag="other")
            for client in (solver, critic, solver):
                await client.chat.completions.create(
                    model="policy", messages=[{"role": "user", "content": "hi"}]
                )
            return rewarded(to_give.pop(0))

    groups: list[Group] = rollout_of(Debate, max_env_worker=1).run(
        tasks_of(1), num_repeat=2, tag="test"
    )
    credit(groups, dr_grpo)
    assert [e.failure for e in groups[0].episodes] == [None, None]
    return groups[0].episodes


def advantages(episode: Episode) -> dict[int, list[float]]:
    """Call index -> the advantage of each of its trained tokens."""
    found: dict[int, list[float]] = {}
    for sample in episode.samples:
        assert sample.advantages is not None
        assert not sample.advantages[~sample.loss_mask].any()
        for index, advantage in zip(
            sample.call_index[sample.loss_mask].tolist(),
            sample.advantages[sample.loss_mask].tolist(),
            strict=True,
        ):
            found.setdefault(index, []).append(advantage)
    return found


def each(*call_advantages: float | None) -> dict[int, list[float]]:
    """What `advantages` gives where each of a call's tokens has the call's; None: no loss."""
    return {
        index: [advantage] * len(ANSWER)
        for index, advantage in enumerate(call_advantages)
        if advantage is not None
    }


@pytest.mark.parametrize(
    ("rewards", "first", "second"),
    [
        ([1.0, 0.0], each(0.5, None, 0.5), each(-0.5, None, -0.5)),
        (
            [{"solver": 1.0, "critic": 8.0}, {"solver": 0.5, "critic": 0.0}],
            each(0.25, None, 0.25),
            each(-0.25, None, -0.25),
        ),
        ([{"solver": 1.0}, {"solver": 0.5}], each(0.25, None, 0.25), each(-0.25, None, -0.25)),
        (
            [[1.0, 8.0, 0.0], [0.0, 0.0, 0.0]],  # the solver's means are 0.5 and 0
            each(0.75, None, -0.25),
            each(-0.25, None, -0.25),
        ),
    ],
)
def test_only_the_selected_agent_is_credited(
    rewards: Rewards, first: dict[int, list[float]], second: dict[int, list[float]]
) -> None:
    episodes = debate(rewards)
    assert [advantages(episode) for episode in episodes] == [first, second]
    assert {name for e in episodes for s in e.samples for name in s.agent_names} == {"solver"}
    assert [call.trained for call in episodes[0].calls] == [True, False, True]


def test_with_every_target_selected_each_agent_is_credited() -> None:
    episodes = debate(
        [{"solver": 1.0, "critic": 8.0}, {"solver": 0.5, "critic": 0.0}], targets=None
    )
    assert [advantages(episode) for episode in episodes] == [
        each(0.25, 4.0, 0.25),
        each(-0.25, -4.0, -0.25),
    ]


def test_where_no_call_with_a_reward_is_trained_there_is_nothing_to_train() -> None:
    assert [advantages(e) for e in debate([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [])] == [{}, {}]
