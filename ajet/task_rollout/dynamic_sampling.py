"""Dynamic sampling: replaces groups without a gradient by groups of other tasks.

From DAPO (arXiv 2503.14476, section 3.2). DAPO samples until the batch is full. We stop after a
limited number of rounds, each of which runs as many new tasks as there are groups to replace. A
group that could not be replaced stays and counts as a group of zero variance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ajet.schema.episode import Group


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
