"""Credit: from rewards to advantages of tokens.

1. The baseline is per episode in its group, never per sample or call.
2. Rewards may be per episode, per call or per agent.
3. Only valid episodes count; groups without a gradient are counted and not trained.
4. An advantage that is not finite stops the run.
"""

from __future__ import annotations

import numpy as np
import pytest

from ajet.algorithm.credit import credit
from ajet.algorithm.dr_grpo import dr_grpo
from ajet.algorithm.grpo import grpo
from ajet.algorithm.reinforce_plus_plus import reinforce_plus_plus
from ajet.errors import TrainingError
from ajet.schema.episode import Episode
from tests.make_samples import make_episode, make_failed_episode, make_group

MEAN_ONLY = dr_grpo
GRPO = grpo


def token_advantages(episode: Episode) -> list[float]:
    """The advantage of each sample's trained tokens, which have to agree."""
    result = []
    for sample in episode.samples:
        assert sample.advantages is not None
        (advantage,) = set(sample.advantages[sample.loss_mask].tolist())
        assert not sample.advantages[~sample.loss_mask].any()
        result.append(advantage)
    return result


def test_an_episode_with_more_samples_does_not_weigh_more() -> None:
    long = make_episode("long", 1.0, agents=["agent"] * 9)
    short = make_episode("short", 0.0)
    credit([make_group(long, short)], MEAN_ONLY)
    assert token_advantages(long) == [0.5] * 9  # per sample it would be 0.1
    assert token_advantages(short) == [-0.5]


def test_every_call_of_an_episode_has_the_episodes_advantage() -> None:
    good, bad = make_episode("a", 1.0, agents=["x", "y"]), make_episode("b", 0.0, agents=["x"])
    credit([make_group(good, bad)], MEAN_ONLY)
    assert token_advantages(good) == [0.5, 0.5]
    assert token_advantages(bad) == [-0.5]


def test_calls_with_rewards_of_their_own_are_measured_against_the_episodes_means() -> None:
    first = make_episode("a", [1.0, 0.0, 0.5], agents=["agent"] * 3)
    second = make_episode("b", [0.0])
    credit([make_group(first, second)], MEAN_ONLY)
    assert token_advantages(first) == [0.75, -0.25, 0.25]
    assert token_advantages(second) == [-0.25]


def test_call_rewards_in_episodes_of_equal_reward_do_not_explode() -> None:
    first = make_episode("a", [1.0, 0.0], agents=["agent"] * 2)
    second = make_episode("b", [0.5, 0.5], agents=["agent"] * 2)
    credit([make_group(first, second)], GRPO)
    assert max(map(abs, token_advantages(first))) < 2


def test_each_agent_is_compared_with_itself() -> None:
    groups = [
        make_group(
            make_episode("a", {"wolf": 1.0, "seer": 0.0}, agents=["wolf", "seer", "wolf"]),
            make_episode("b", {"wolf": 0.0, "seer": 0.0}, agents=["wolf", "seer"]),
        )
    ]
    credit(groups, MEAN_ONLY)
    first, second = groups[0].episodes
    assert token_advantages(first) == [0.5, 0.0, 0.5]
    assert token_advantages(second) == [-0.5, 0.0]


def test_an_agent_is_compared_only_where_it_takes_part() -> None:
    both = make_episode("a", {"wolf": 1.0, "seer": 0.3}, agents=["wolf", "seer"])
    one = make_episode("b", {"wolf": 0.0}, agents=["wolf"])
    credit([make_group(both, one)], MEAN_ONLY)
    assert token_advantages(both) == [0.5, 0.0]


def test_an_episode_reward_counts_for_each_agent_among_rewards_per_agent() -> None:
    per_agent = make_episode("a", {"wolf": 1.0, "seer": 0.5}, agents=["wolf", "seer"])
    whole = make_episode("b", 0.0, agents=["wolf", "seer"])
    credit([make_group(per_agent, whole)], MEAN_ONLY)
    assert token_advantages(per_agent) == [0.5, 0.25]
    assert token_advantages(whole) == [-0.5, -0.25]


def test_batch_normalisation_keeps_agents_apart() -> None:
    estimator = reinforce_plus_plus
    first = make_episode("a", {"wolf": 1.0, "seer": 100.0}, agents=["wolf", "seer"])
    second = make_episode("b", {"wolf": 0.0, "seer": 200.0}, agents=["wolf", "seer"])
    credit([make_group(first), make_group(second)], estimator)
    assert token_advantages(first)[0] == pytest.approx(0.5**0.5, abs=1e-3)
    assert token_advantages(second)[0] == pytest.approx(-(0.5**0.5), abs=1e-3)


def test_failed_episodes_are_not_part_of_the_baseline() -> None:
    good, bad = make_episode("a", 1.0), make_episode("b", 0.0)
    report = credit([make_group(good, make_failed_episode("c"), bad)], MEAN_ONLY)
    assert token_advantages(good) == [0.5]
    assert [sample.episode_id for sample in report.samples] == ["a", "b"]


def test_groups_that_give_no_gradient_are_counted_and_not_trained() -> None:
    equal = make_group(make_episode("a", 1.0), make_episode("b", 1.0))
    mixed = make_group(make_episode("c", 1.0), make_episode("d", 0.0))
    failed = make_group(make_failed_episode("e"))
    report = credit([equal, mixed, failed], GRPO)
    assert report.is_zero_variance == [True, False, True]
    assert (report.zero_variance_groups, report.num_groups) == (2, 3)
    assert [sample.episode_id for sample in report.samples] == ["c", "d"]
    # Their advantages are known all the same: 0, not missing.
    assert token_advantages(equal.episodes[0]) == [0.0]


def test_a_sample_without_trained_tokens_is_not_trained() -> None:
    good, bad = make_episode("a", 1.0), make_episode("b", 0.0)
    good.samples[0].loss_mask[:] = False
    good.samples[0].call_index[:] = -1
    report = credit([make_group(good, bad)], MEAN_ONLY)
    assert [sample.episode_id for sample in report.samples] == ["b"]


def test_an_episode_without_calls_is_part_of_the_baseline() -> None:
    silent, good = make_episode("a", 0.0, agents=[]), make_episode("b", 1.0)
    credit([make_group(silent, good)], MEAN_ONLY)
    assert token_advantages(good) == [0.5]


def test_call_indices_need_not_be_positions() -> None:
    good, bad = make_episode("a", [1.0, 0.0], agents=["x", "x"]), make_episode("b", [0.5])
    for call, index in zip(good.calls, (3, 7), strict=True):
        call.index = index
    for sample, index in zip(good.samples, (7, 3), strict=True):
        sample.call_index[sample.loss_mask] = index
    credit([make_group(good, bad)], MEAN_ONLY)
    assert token_advantages(good) == [-0.5, 0.5]


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_an_advantage_that_is_not_finite_stops_the_run(reward: float) -> None:
    group = make_group(make_episode("good", 1.0), make_episode("bad", reward))
    with pytest.raises(TrainingError, match="episode good of task t0"):
        credit([group], MEAN_ONLY)


def test_nothing_gives_nothing() -> None:
    report = credit([], GRPO)
    assert (report.samples, report.num_groups) == ([], 0)


def test_advantages_are_float32() -> None:
    group = make_group(make_episode("a", 1.0), make_episode("b", 0.0))
    (first, _) = credit([group], GRPO).samples
    assert first.advantages is not None
    assert first.advantages.dtype == np.float32
