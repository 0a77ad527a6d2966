"""Dynamic sampling: other tasks in place of groups that give no gradient.

After DAPO (arXiv 2503.14476, section 3.2). There, sampling goes on until the batch is full; here
for a limited number of rounds, each of which runs as many new tasks as there are groups to
replace. What cannot be replaced stays, and is counted as a group of zero variance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ajet.schema.episode import Group


@dataclass(slots=True, kw_only=True)
class Resampled:
    """A step's groups after dynamic sampling."""

    groups: list[Group] = field(default_factory=list)
    """As many as tasks were asked for."""
    discarded: list[Group] = field(default_factory=list)
    """Sampled, and left out because they give no gradient."""
    rounds: int = 0

    def metrics(self) -> dict[str, float]:
        """What it cost."""
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
    """Replace groups that give no gradient, for `max_rounds` rounds at most.

    Args:
        groups: of the step's first rollout.
        gives_gradient: whether there is something to learn from a group.
        run_more: `(round from 1, number of groups)` to the groups of that many new tasks.
        max_rounds: then the rest stays as it is.
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
