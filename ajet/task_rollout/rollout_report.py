"""Metrics of a rollout, and a report of its failed episodes."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import get_args

from ajet.errors import TrainingError
from ajet.schema.call import Call, NewTimelineReason
from ajet.schema.episode import Episode, Failure, Group

logger = logging.getLogger(__name__)

MOST_COMMON = 5


def check_failures(groups: Sequence[Group], max_failure_share: float) -> None:
    """Log a warning about failed episodes with their causes.

    Raises:
        TrainingError: more than `max_failure_share` of all episodes failed.
    """
    episodes = [episode for group in groups for episode in group.episodes]
    failed = [episode for episode in episodes if episode.failure]
    if not failed:
        return
    text = f"{len(failed)} of {len(episodes)} episodes failed:\n{_causes(failed)}"
    if len(failed) > max_failure_share * len(episodes):
        raise TrainingError(
            f"{text}\nThat is more than rollout.max_failure_share = {max_failure_share:g} allows."
        )
    logger.warning("%s", text)


def _causes(failed: Sequence[Episode]) -> str:
    """The most frequent causes with their counts, and one traceback of the most frequent."""
    failures = [episode.failure for episode in failed if episode.failure]
    counts = Counter(_cause(failure) for failure in failures)
    lines = [
        f"  {count} x {kind}: {message}"
        for (kind, message), count in counts.most_common(MOST_COMMON)
    ]
    if len(counts) > MOST_COMMON:
        lines.append(f"  and {len(counts) - MOST_COMMON} other causes")
    most_common = counts.most_common(1)[0][0]
    example = next(failure for failure in failures if _cause(failure) == most_common)
    if "\n" in example.traceback.strip():
        lines.append(f"The first of the most frequent kind:\n{example.traceback.rstrip()}")
    return "\n".join(lines)


def _cause(failure: Failure) -> tuple[str, str]:
    """Kind and message; messages that differ only in addresses of objects are one cause."""
    return failure.kind, re.sub(r"\b0x[0-9a-fA-F]{6,}", "0x...", failure.message)


def rollout_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """The metrics of a rollout, with the names that all backbones share.

    Reward metrics cover valid episodes only. A failed episode counts as unsuccessful; its calls
    are counted, and its tokens only as dropped. A workflow's own metrics are `workflow/NAME`, the
    mean over the episodes that report them. Metrics without data are left out.
    """
    episodes = [episode for group in groups for episode in group.episodes]
    valid = [episode for group in groups for episode in group.valid]
    metrics: dict[str, float] = {
        "episode/count": len(episodes),
        "episode/failed": len(episodes) - len(valid),
        "rollout/retries": sum(episode.retries for episode in episodes),
    }
    if episodes:
        metrics["episode/success_rate"] = fmean(bool(e.is_success) for e in episodes)
        metrics["episode/num_calls"] = fmean(len(e.calls) for e in episodes)
        metrics |= _check_metrics(episodes)
    if rewards := [episode.reward for episode in valid if episode.reward is not None]:
        metrics["reward/mean"] = fmean(rewards)
        metrics["reward/std"] = pstdev(rewards)
        metrics["reward/min"], metrics["reward/max"] = min(rewards), max(rewards)
        metrics |= _agent_rewards(valid)
    metrics |= _response_metrics(episodes)
    metrics |= _judge_metrics(episodes)
    metrics |= _token_metrics(episodes, valid) | timeline_metrics(episodes)
    return metrics | _workflow_metrics(valid)


def _agent_rewards(valid: Sequence[Episode]) -> dict[str, float]:
    """`reward/agent/NAME`: mean reward of each agent, where there are several.

    An agent's reward in an episode is the mean of the rewards of its calls.
    """
    rewards: dict[str, list[float]] = defaultdict(list)
    for episode in valid:
        if episode.call_rewards is None:
            continue
        of_calls: dict[str, list[float]] = defaultdict(list)
        for call, reward in zip(episode.calls, episode.call_rewards, strict=True):
            of_calls[call.agent_name].append(float(reward))
        for name, values in of_calls.items():
            rewards[name].append(fmean(values))
    if len(rewards) < 2:
        return {}
    return {f"reward/agent/{name}": fmean(values) for name, values in sorted(rewards.items())}


def _response_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """Sampled tokens of a trained call, and the share of calls that the limit has cut."""
    calls = [call for episode in episodes for call in episode.calls if call.trained]
    if not calls:
        return {}
    lengths = [len(call.completion_ids) for call in calls]
    return {
        "response/length_mean": fmean(lengths),
        "response/length_max": max(lengths),
        "response/cut_share": fmean(call.finish_reason == "length" for call in calls),
    }


def _check_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """Shares of the episodes with a completion that fails a rule: any rule, and each one."""
    rules = dict.fromkeys(rule for episode in episodes for rule in episode.failed_checks)
    if not rules:
        return {}
    metrics = {"critic/madness_rate": fmean(any(e.failed_checks.values()) for e in episodes)}
    for rule in rules:
        share = fmean(bool(e.failed_checks.get(rule)) for e in episodes)
        metrics[f"critic/madness_rate/{rule}"] = share
    return metrics


def _judge_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """Numbers of judged and failed episodes, seconds, and what asking a model cost."""
    judged = [episode for episode in episodes if episode.judge_s is not None]
    if not judged:
        return {}
    failed = [e for e in judged if e.failure is not None and e.failure.kind == "judge_error"]
    usage: Counter[str] = Counter()
    for episode in judged:
        usage.update(episode.output.judge_usage)
    return {
        "judge/episodes": len(judged),
        "judge/failed": len(failed),
        "judge/seconds": fmean(episode.judge_s or 0.0 for episode in judged),
        **{f"judge/{name}": value for name, value in usage.items()},
    }


def _token_metrics(episodes: Sequence[Episode], valid: Sequence[Episode]) -> dict[str, float]:
    calls = [call for episode in valid for call in episode.calls if call.trained]
    samples = [sample for episode in valid for sample in episode.samples]
    separate = sum(call.prompt_length + len(call.completion_ids) for call in calls)
    merged = sum(len(sample) for sample in samples)
    metrics: dict[str, float] = {
        "tokens/calls": separate,
        "tokens/trained_sequence": merged,
        "tokens/sampled": sum(sample.num_trained for sample in samples),
        "tokens/dropped": sum(sum(episode.dropped_tokens.values()) for episode in episodes),
    }
    if merged:
        metrics["tokens/merge_ratio"] = separate / merged
    return metrics


def _workflow_metrics(valid: Sequence[Episode]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for episode in valid:
        for name, value in episode.log_metrics.items():
            values[f"workflow/{name}"].append(value)
    return {name: fmean(some) for name, some in values.items()}


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
