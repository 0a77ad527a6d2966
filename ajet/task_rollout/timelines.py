"""Metrics and reports of calls that could not continue the timeline of an earlier call."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import get_args

from ajet.schema.call import Call, NewTimelineReason
from ajet.schema.episode import Episode, Group

logger = logging.getLogger(__name__)

EXPECTED = ("first_call", "new_conversation")
"""Reasons for a new timeline that every normal episode has."""


def timeline_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """`timeline/REASON` for each unexpected reason, and the number of context overflows."""
    counts = Counter(call.new_timeline for call in _diverged(episodes))
    metrics: dict[str, float] = {
        f"timeline/{reason}": counts[reason]
        for reason in get_args(NewTimelineReason)
        if reason not in EXPECTED
    }
    overflows = sum(episode.context_overflows for episode in episodes)
    return metrics | {"timeline/context_overflow": overflows}


def report_divergence(groups: Sequence[Group], step: int) -> None:
    """Log a warning about the step's calls that could not continue an earlier call."""
    report = divergence_report([episode for group in groups for episode in group.episodes])
    if report is not None:
        logger.warning("step %d: calls that start a new timeline:\n  %s", step, report)


def divergence_report(episodes: Sequence[Episode]) -> str | None:
    """One line per reason with its first example; None if there is nothing unexpected."""
    counts = Counter(call.new_timeline for call in _diverged(episodes))
    lines = []
    for reason, count in counts.most_common():
        episode, call = next(
            (episode, call)
            for episode in episodes
            for call in episode.calls
            if call.new_timeline == reason
        )
        lines.append(
            f"{count} x {reason}, for example call {call.index} of agent {call.agent_name!r} in "
            f"episode {episode.episode_id} (task {episode.task.task_id})"
        )
    return "\n  ".join(lines) or None


def _diverged(episodes: Sequence[Episode]) -> list[Call]:
    return [
        call
        for episode in episodes
        for call in episode.calls
        if call.new_timeline is not None and call.new_timeline not in EXPECTED
    ]
