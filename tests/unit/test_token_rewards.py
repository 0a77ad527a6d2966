"""Rewards at tokens, for a critic.

1. A reward stands at the last trained token of what it is for, in each sample, and nowhere else.
2. Every sample with trained tokens is trained, also where all rewards are equal or 0.
3. Failed episodes have none; a reward that is not finite stops the run.
4. Backbones without a critic refuse the estimator by name.
"""

from __future__ import annotations

import numpy as np
import pytest

from ajet.algorithm.credit import credit
from ajet.algorithm.token_rewards import place_rewards
from ajet.config.loading.load import load_config
from ajet.config.sections.algorithm import AlgorithmConfig
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.errors import ConfigError, TrainingError
from ajet.launcher.backbones import refuse_settings
from ajet.monitor.call_table import StoredStep
from ajet.replay.stages import compare_advantages
from ajet.schema.episode import Episode
from ajet.training.updates import plan_updates
from tests.make_samples import make_episode, make_failed_episode, make_group, make_sample
from tests.unit.test_credit import GRPO

DEMO = "tutorial/example_math_agent/math_agent_cpu.yaml"


def one_sample(episode: Episode) -> Episode:
    """The episode's calls as one timeline: each has two tokens after two of its prompt."""
    count = len(episode.calls)
    sample = make_sample(range(4 * count), [4 * i + j for i in range(count) for j in (2, 3)])
    sample.call_index[sample.loss_mask] = np.repeat(np.arange(count), 2)
    sample.advantages = None
    episode.samples = [sample]
    return episode


def placed(episode: Episode) -> list[dict[int, float]]:
    """Position -> reward, of each sample."""
    place_rewards([make_group(episode)])
    found = []
    for sample in episode.samples:
        assert sample.rewards is not None
        assert sample.rewards.dtype == np.float32
        found.append({int(i): float(sample.rewards[i]) for i in np.flatnonzero(sample.rewards)})
    return found


def test_an_episodes_reward_is_at_the_end_of_each_of_its_samples() -> None:
    assert placed(make_episode("a", 0.5, agents=["x", "y"])) == [{4: 0.5}, {4: 0.5}]
    assert placed(one_sample(make_episode("b", 0.5, agents=["x", "y"]))) == [{7: 0.5}]


def test_a_calls_reward_is_at_the_end_of_the_call() -> None:
    episode = one_sample(make_episode("a", [1.0, 0.25, -2.0], agents=["x"] * 3))
    assert placed(episode) == [{3: 1.0, 7: 0.25, 11: -2.0}]


def test_an_agents_reward_is_at_the_end_of_its_last_call() -> None:
    episode = one_sample(make_episode("a", {"x": 1.0, "y": 0.5}, agents=["x", "y", "x"]))
    assert placed(episode) == [{7: 0.5, 11: 1.0}]


def test_equal_rewards_are_trained_as_well_since_the_critic_may_have_guessed_others() -> None:
    groups = [make_group(make_episode("a", 0.0), make_episode("b", 0.0), make_failed_episode("c"))]
    report = place_rewards(groups)
    assert len(report.samples) == 2
    assert report.zero_variance_groups == 0
    (part,) = plan_updates(report.samples, settings("gae"), step=1)
    assert len(part) == 2
    assert credit(groups, GRPO).samples == []


def test_a_group_without_valid_episodes_gives_nothing() -> None:
    report = place_rewards([make_group(make_failed_episode("a"))])
    assert (report.samples, report.zero_variance_groups) == ([], 1)


def test_a_reward_that_is_not_finite_is_refused() -> None:
    with pytest.raises(TrainingError, match="episode a .*nan"):
        place_rewards([make_group(make_episode("a", float("nan")))])


def settings(estimator: str) -> TrainerCommonConfig:
    return TrainerCommonConfig(algorithm=AlgorithmConfig(adv_estimator=estimator))


@pytest.mark.parametrize("backbone", ["local", "debug", "trinity"])
def test_a_backbone_without_a_critic_refuses_by_name(backbone: str) -> None:
    overrides = ["ajet.trainer_common.algorithm.adv_estimator=gae"]
    message = f"adv_estimator: gae needs a critic, which the backbone {backbone} does not have"
    with pytest.raises(ConfigError, match=message):
        refuse_settings(load_config(DEMO, [f"ajet.backbone={backbone}", *overrides]).ajet)
    refuse_settings(load_config(DEMO, ["ajet.backbone=verl", *overrides]).ajet)


def test_a_replay_takes_the_advantages_on_record() -> None:
    episode, recorded = make_episode("a", 1.0), make_episode("a", 1.0)
    recorded.samples[0].advantages = np.array([0, 0, 0, 0.5, 0.25], np.float32)
    step = StoredStep(groups=[make_group(episode)], discarded=[])
    stage, report = compare_advantages({"a": recorded.samples}, step, "gae")
    assert stage.outcome == "skipped"
    (sample,) = report.samples
    assert sample.advantages is recorded.samples[0].advantages
