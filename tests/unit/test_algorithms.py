"""Advantage estimators.

1. An advantage is (reward - center) / scale, with one center and scale an episode.
2. grpo: group mean, group deviation. dr_grpo: group mean. rloo: mean of the others.
   reinforce_plus_plus: mean and deviation of the batch.
3. Equal rewards give advantages of exactly 0, but for reinforce_plus_plus across groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ajet.algorithm.credit import (
    AdvantageEstimator,
    Baseline,
    CreditRule,
    GroupRewards,
    credit,
    credit_rule,
)
from ajet.algorithm.token_rewards import place_rewards
from ajet.config.sections.algorithm import CREDIT
from ajet.errors import ConfigError
from tests.make_samples import make_episode, make_group


def estimator(name: str) -> AdvantageEstimator | None:
    """The advantage estimator behind a registered name; None: its credit needs no group."""
    assign = credit_rule(name).assign
    return assign.keywords["estimator"] if isinstance(assign, partial) else None


ESTIMATORS = {name: found for name in CREDIT if (found := estimator(name))}
GROUP_BASED = ["grpo", "dr_grpo", "rloo"]


def rewards(*values: float, within: float = 0.0) -> GroupRewards:
    return GroupRewards(
        rewards=np.array(values, dtype=np.float64),
        variance_within=np.full(len(values), within),
        calls=[()] * len(values),
    )


def advantages(name: str, *groups: GroupRewards) -> list[np.ndarray]:
    baselines = ESTIMATORS[name](groups)
    return [
        (group.rewards - baseline.center) / baseline.scale
        for group, baseline in zip(groups, baselines, strict=True)
    ]


def test_every_registered_name_is_an_estimator_or_credit_without_a_group() -> None:
    assert set(ESTIMATORS) == {*GROUP_BASED, "reinforce_plus_plus"}
    rest = {name: credit_rule(name) for name in CREDIT.keys() - ESTIMATORS.keys()}
    assert rest == {"gae": CreditRule(assign=place_rewards, needs_critic=True)}


OWN = """
import numpy as np
from ajet.algorithm.credit import Baseline
from ajet.algorithm.credit import CreditReport, CreditRule

def short_is_better(groups):
    return [
        Baseline(center=group.num_tokens.astype(float), scale=np.ones(len(group.rewards)))
        for group in groups
    ]

NOTHING = CreditRule(assign=lambda groups: CreditReport())
"""


def test_a_users_own_estimator_is_named_by_its_class_path(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    group = make_group(make_episode("a", 1.0), make_episode("b", 1.0, agents=["x", "x"]))
    report = credit_rule(f"{tmp_path}/own.py->short_is_better")([group])
    tokens = [sum(len(call.completion_ids) for call in e.calls) for e in group.valid]
    assert tokens[0] < tokens[1]
    got = [sample.advantages[sample.loss_mask].tolist() for sample in report.samples]
    assert got == [[1.0 - tokens[0]] * 2] + [[1.0 - tokens[1]] * 2] * 2


def test_a_users_own_credit_rule_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    report = credit_rule(f"{tmp_path}/own.py->NOTHING")([make_group(make_episode("a", 1.0))])
    assert report.samples == []


def test_a_name_that_is_not_in_the_users_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(ConfigError, match='adv_estimator: no function "short_is_bettr"'):
        credit_rule(f"{tmp_path}/own.py->short_is_bettr")


def test_an_estimator_sees_the_calls_that_a_reward_is_for() -> None:
    seen: list[list[list[int]]] = []

    def look(groups: Sequence[GroupRewards]) -> list[Baseline]:
        seen.append([[call.index for call in calls] for group in groups for calls in group.calls])
        return [
            Baseline(center=np.zeros_like(group.rewards), scale=np.ones_like(group.rewards))
            for group in groups
        ]

    credit([make_group(make_episode("a", {"x": 1.0, "y": 0.5}, agents=["x", "y", "x"]))], look)
    assert seen == [[[0, 2]], [[1]]]


def test_grpo_divides_by_the_groups_own_deviation() -> None:
    (result,) = advantages("grpo", rewards(0, 0, 0, 1))
    np.testing.assert_allclose(result, np.array([-1, -1, -1, 3]) / 4 / (0.5 + 1e-4))


def test_dr_grpo_only_subtracts_the_group_mean() -> None:
    (result,) = advantages("dr_grpo", rewards(0, 0, 0, 1))
    np.testing.assert_allclose(result, [-0.25, -0.25, -0.25, 0.75])


def test_rloo_subtracts_the_mean_of_the_other_episodes() -> None:
    (result,) = advantages("rloo", rewards(0, 0.5, 1, 4))
    np.testing.assert_allclose(result, [0 - 5.5 / 3, 0.5 - 5 / 3, 1 - 4.5 / 3, 4 - 1.5 / 3])


def test_reinforce_plus_plus_normalises_over_all_groups() -> None:
    first, second = advantages("reinforce_plus_plus", rewards(0, 0), rewards(1, 1))
    scale = np.std([0, 0, 1, 1], ddof=1) + 1e-4
    np.testing.assert_allclose(first, [-0.5 / scale] * 2)
    np.testing.assert_allclose(second, [0.5 / scale] * 2)


@pytest.mark.parametrize("name", GROUP_BASED)
def test_a_group_does_not_depend_on_the_others(name: str) -> None:
    alone = advantages(name, rewards(0, 1, 0.5))[0]
    beside = advantages(name, rewards(0, 1, 0.5), rewards(7, -3))[0]
    np.testing.assert_array_equal(alone, beside)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -2.7, 1e9])
def test_equal_rewards_give_exactly_no_advantage(name: str, value: float) -> None:
    (result,) = advantages(name, rewards(*[value] * 7))
    np.testing.assert_array_equal(result, 0)


def test_a_plain_mean_of_equal_rewards_would_give_an_advantage() -> None:
    assert np.full(3, 0.1).mean() != 0.1
    assert rewards(0.1, 0.1, 0.1).mean() == 0.1


@pytest.mark.parametrize("name", GROUP_BASED)
def test_an_episode_alone_in_its_group_has_nothing_to_be_compared_with(name: str) -> None:
    np.testing.assert_array_equal(advantages(name, rewards(0.7))[0], 0)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_advantages_of_a_batch_sum_to_zero(name: str) -> None:
    groups = [rewards(0, 0.2, 1, 0.9), rewards(3, 1, 1, 0)]
    assert abs(sum(result.sum() for result in advantages(name, *groups))) < 1e-9


@pytest.mark.parametrize("name", ["grpo", "reinforce_plus_plus"])
def test_spread_within_episodes_is_part_of_the_deviation(name: str) -> None:
    (baseline,) = ESTIMATORS[name]([rewards(0.5, 0.5, within=0.25)])
    np.testing.assert_allclose(baseline.scale, 0.5 + 1e-4)
