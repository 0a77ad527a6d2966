"""Groups that give no gradient: replaced by dynamic sampling, or explained.

Why a step gives no gradient, in words: the first rule that applies.

1. No episode has a reward.
2. No call went through the tuner, or none of the calls is trained. No later step can change that,
   so after the first step it is an error.
3. Every sample was dropped by a rule.
4. Every group has one valid episode, and so nothing to compare it with.
5. The rewards of each group are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ajet.errors import TrainingError
from ajet.schema.episode import Call, Episode, Group

LIMITS = {
    "max_prompt_length": "data.max_prompt_length: more tokens come before the first trained one",
    "max_response_length": "data.max_response_length: cut off at the sample's end",
    "max_sample_per_task": "rollout.multi_turn.max_sample_per_task: the episode has more samples",
}
"""Rules that drop tokens of an episode that did not fail -> the setting, and what it does."""


def require_trained_calls(groups: Sequence[Group]) -> None:
    """Refuse to continue when no call of the first step is trained.

    Raises:
        TrainingError: says which calls there were, and how to have them trained.
    """
    episodes = [episode for group in groups for episode in group.valid]
    if episodes and (reason := untrained_reason(episodes)):
        raise TrainingError(f"nothing can be trained: {reason}")


def why_no_gradient(groups: Sequence[Group]) -> str:
    """The reason why a step of these groups has no sample to train on."""
    episodes = [episode for group in groups for episode in group.valid]
    if not episodes:
        return "no episode has a reward"
    if reason := untrained_reason(episodes):
        return reason
    if not any(sample.num_trained for episode in episodes for sample in episode.samples):
        return dropped_reason(episodes)
    if all(len(group.valid) <= 1 for group in groups):
        return (
            "each group has one valid episode, and nothing to compare it with; set "
            "rollout.num_repeat to 2 or more"
        )
    return "every group's rewards are all equal"


def untrained_reason(episodes: Sequence[Episode]) -> str:
    """Why no call of the episodes is trained; empty if one is."""
    calls = [call for episode in episodes for call in episode.calls]
    if any(call.trained for call in calls):
        return ""
    if calls:
        return f"none of the {len(calls):,} calls is trained: {_tags(calls)}"
    if any(episode.debug_calls for episode in episodes):
        return "debug models answered every call"
    return (
        "the workflow made no call through the tuner; an agent with a client of its own must get "
        "one of tuner.as_...() instead"
    )


def dropped_reason(episodes: Sequence[Episode]) -> str:
    """Which settings dropped all samples of the episodes, and why."""
    dropped = Counter[str]()
    for episode in episodes:
        dropped.update(episode.dropped_tokens)
    rules = "; ".join(
        f"{LIMITS.get(name, name)} ({count:,} sampled tokens)" for name, count in dropped.items()
    )
    return f"all samples were dropped by {rules or 'the size limits'}"


def _tags(calls: Sequence[Call]) -> str:
    agents = {call.agent_name: call.target_tag for call in calls}
    named = " and ".join(f'agent "{name}" has target_tag "{tag}"' for name, tag in agents.items())
    return (
        f"{named}, which Workflow.trainable_targets does not name; give the client of an agent "
        "that is to be trained target_tag=..., or name its tag there"
    )


@dataclass(slots=True, kw_only=True)
class Resampled:
    """A step's groups after dynamic sampling."""

    groups: list[Group] = field(default_factory=list)
    """The groups to train on, one per requested task."""
    discarded: list[Group] = field(default_factory=list)
    """Sampled groups that are not trained because they give no gradient."""
    rounds: int = 0

    def metrics(self) -> dict[str, float]:
        """Number of additional rounds and of discarded groups."""
        return {
            "rollout/resample_rounds": self.rounds,
            "rollout/discarded_groups": len(self.discarded),
        }


def resample(
    groups: Sequence[Group],
    *,
    gives_gradient: Callable[[Group], bool],
    run_more: Callable[[int, int], list[Group]],
    max_rounds: int,
) -> Resampled:
    """Replace groups without a gradient, in at most `max_rounds` rounds.

    Args:
        groups: the groups of the step's first rollout.
        gives_gradient: whether training on a group gives a gradient.
        run_more: called with the round (from 1) and a number of tasks; returns their groups.
        max_rounds: maximum number of additional rounds.
    """
    result = Resampled(groups=list(groups))
    while result.rounds < max_rounds:
        flat = [i for i, group in enumerate(result.groups) if not gives_gradient(group)]
        if not flat:
            break
        result.rounds += 1
        for group in run_more(result.rounds, len(flat)):
            if gives_gradient(group):
                place = flat.pop(0)
                group, result.groups[place] = result.groups[place], group
            result.discarded.append(group)
    return result
