"""Places rewards at tokens, for estimators whose critic replaces the group's baseline."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from ajet.algorithm.credit import CreditReport, CreditRule
from ajet.errors import TrainingError
from ajet.schema.episode import Call, Episode, Group


def place_rewards(groups: Sequence[Group]) -> CreditReport:
    """Fill `Sample.rewards` of every valid episode; every sample with trained tokens is trained.

    A reward is placed at the last trained token of its unit (the episode, an agent or a call) in
    each sample. So every sample of an episode gets the whole reward, just as a baseline gives its
    tokens the whole advantage.

    Raises:
        TrainingError: a reward is NaN or infinite.
    """
    report = CreditReport()
    for group in groups:
        samples = []
        for episode in group.valid:
            _place(episode)
            samples += [sample for sample in episode.samples if sample.num_trained]
        report.is_zero_variance.append(not samples)
        report.samples += samples
    return report


def _place(episode: Episode) -> None:
    assert episode.call_rewards is not None, "a valid episode has a reward for each call"
    if not np.isfinite(episode.call_rewards).all():
        raise TrainingError(
            f"episode {episode.episode_id} of task {episode.task.task_id}: the rewards of its "
            f"calls are {episode.call_rewards.tolist()}"
        )
    what_for = _WHAT_FOR[episode.reward_per]
    unit = {call.index: what_for(call) for call in episode.calls}
    reward = dict(zip(unit, episode.call_rewards, strict=True))
    for sample in episode.samples:
        sample.rewards = np.zeros(len(sample), np.float32)
        last = {unit[sample.call_index[place]]: place for place in np.flatnonzero(sample.loss_mask)}
        for place in last.values():
            sample.rewards[place] = reward[sample.call_index[place]]


GAE = CreditRule(assign=place_rewards, needs_critic=True)
"""Generalized advantage estimation (arXiv:1506.02438): the backbone's critic makes advantages of
the placed rewards."""

_WHAT_FOR: dict[str, Callable[[Call], Hashable]] = {
    "episode": lambda call: None,
    "agent": lambda call: call.agent_name,
    "call": lambda call: call.index,
}
