"""What a run should say once about settings that mean something else than they seem to."""

from __future__ import annotations

from ajet.config.root import AjetConfig


def notices(ajet: AjetConfig) -> list[str]:
    """One line a setting."""
    policy = ajet.context_tracker.timeline_merging_policy
    key = "ajet.context_tracker.timeline_merging_policy"
    lines = []
    if policy.timeline_compare_level == "text":
        lines.append(
            f'{key}.timeline_compare_level: "text" now means the same as "token": calls are merged '
            "where their token ids are equal, and what was sampled is trained as it was"
        )
    if policy.ignore_tools:
        lines.append(
            f"{key}.ignore_tools: calls with other tools have other token ids, so they are never "
            "one timeline"
        )
    return lines
