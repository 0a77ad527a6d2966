"""The rollouts of a run: runs the groups of a step or an evaluation, shows and measures them."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from math import comb
from statistics import fmean, pstdev
from typing import get_args

from ajet.class_path import working_directory
from ajet.errors import TrainingError
from ajet.gateway.request import SamplingDefaults
from ajet.monitor.episode_log import EpisodePhase
from ajet.monitor.progress import Progress
from ajet.monitor.records import Records
from ajet.schema.episode import Call, Episode, Failure, Group, NewTimelineReason, Waiting
from ajet.schema.task import Task
from ajet.task_judge.base_judge import BaseGroupJudge
from ajet.task_rollout.group_judging import GroupJudging, waiting_groups
from ajet.task_rollout.workers import EpisodeExecutor, EpisodeLimits, ThreadExecutor
from ajet.task_runner.episode_run import Attempt, EpisodeRunner

logger = logging.getLogger(__name__)

TITLES: dict[EpisodePhase, str] = {
    "train": "rollout",
    "eval": "evaluation",
    "eval_greedy": "greedy evaluation",
}
MOST_COMMON = 5
"""Causes of failed episodes that are shown."""
EXPECTED = ("first_call", "new_conversation")
"""Reasons for a new timeline that every normal episode has."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Rollout:
    """Runs groups of episodes, many at once. The section `rollout` explains the limits."""

    runner: EpisodeRunner
    seed: int
    max_env_worker: int = 64
    episode_timeout_s: float = 1800.0
    max_retries: int = 2
    max_failure_share: float = 0.5
    executor: EpisodeExecutor = field(default_factory=ThreadExecutor)
    """Runs the episodes; by default in threads of this process."""

    def waiting(self) -> list[Waiting]:
        """What running episodes, and groups that are being judged, wait for now. Any thread."""
        return [*self.executor.waiting(), *waiting_groups()]

    def run(
        self,
        tasks: Sequence[Task],
        *,
        num_repeat: int,
        tag: str,
        on_episode_done: Callable[[Episode], None] | None = None,
    ) -> list[Group]:
        """Run every task `num_repeat` times and wait until all episodes have ended.

        Args:
            tasks: each makes one group, in this order.
            num_repeat: episodes per group.
            tag: name of the phase, such as `train/000012`; episode ids and seeds derive from it.
            on_episode_done: called in this thread with each episode when it ends.

        Raises:
            TrainingError: more than `max_failure_share` of the episodes failed.
        """
        attempts = [
            Attempt(seed=self.seed, tag=tag, task=task, group_index=group, repeat_index=repeat)
            for group, task in enumerate(tasks)
            for repeat in range(num_repeat)
        ]
        groups = [Group(task=task) for task in tasks]
        done = on_episode_done or (lambda _: None)
        judging = None
        if isinstance(self.runner.judge, BaseGroupJudge):
            judging = GroupJudging(self.runner, tag, self.episode_timeout_s)

        def keep(attempt: Attempt, episode: Episode) -> None:
            group = groups[attempt.group_index]
            group.episodes.append(episode)
            if not episode.awaits_group:
                done(episode)
            if judging:
                if len(group.episodes) == num_repeat:
                    judging.start(group)
                for judged in judging.ended():
                    done(judged)

        limits = EpisodeLimits(
            num_at_once=self.max_env_worker,
            timeout_s=self.episode_timeout_s,
            max_retries=self.max_retries,
        )
        with _kept_directory():
            self.executor.run(self.runner, attempts, limits, keep)
            for judged in judging.finish() if judging else ():
                done(judged)
        for group in groups:
            group.episodes.sort(key=lambda episode: episode.repeat_index)
        check_failures(groups, self.max_failure_share)
        return groups


@contextmanager
def _kept_directory() -> Iterator[None]:
    """Go back to the working directory, which all threads share, if user code has left it.

    The directory of an episode is often gone when the episode has ended, and what the run does next
    would fail in it.
    """
    here = working_directory()
    try:
        yield
    finally:
        if here and working_directory() != here:
            os.chdir(here)
            _warn_of_directory(here)


@cache
def _warn_of_directory(here: str) -> None:
    logger.warning(
        "user code changed the working directory, which all episodes of a process share; the run "
        "went back to %s. Use whole paths, or the cwd of a child process, instead of os.chdir(), "
        "or set ajet.task_runner.isolation: process",
        here,
    )


@dataclass(slots=True, kw_only=True)
class Phases:
    """Runs the episodes of a phase, shows their progress and records each of them."""

    rollout: Rollout
    before: Callable[[], None]
    """Called before each rollout, see `Serving.begin_phase`."""
    records: Records
    progress: Progress
    num_repeat: int
    sampling: SamplingDefaults
    """Sampling parameters of the sampled validation; the greedy one has its own."""
    val_pass_n: int = 1
    """Episodes of each task in validation as sampled."""

    def train(self, tasks: Sequence[Task], step: int, part: int = 0) -> list[Group]:
        """Run the groups of a training step; `part` is the round of dynamic sampling."""
        tag = f"train/{step:06d}" + (f"/{part}" if part else "")
        return self._run("train", self.rollout, tasks, tag, self.num_repeat, step)

    def validate(self, tasks: Sequence[Task], step: int) -> tuple[dict[str, float], list[Episode]]:
        """Run `val_pass_n` sampled episodes per task; returns metrics and the episodes."""
        rollout = self._with_sampling(self.sampling)
        groups = self._run("eval", rollout, tasks, f"eval/{step:06d}", self.val_pass_n, step)
        episodes = [episode for group in groups for episode in group.episodes]
        rewards = [episode.reward for episode in episodes if episode.reward is not None]
        metrics = {"eval/success_rate": _success_rate(episodes)}
        if rewards:
            metrics["eval/reward_mean"] = fmean(rewards)
        solved = [sum(bool(e.is_success) for e in group.episodes) for group in groups]
        return metrics | pass_rates(solved, self.val_pass_n), episodes

    def validate_greedy(self, tasks: Sequence[Task], step: int) -> dict[str, float]:
        """Run one episode per task at temperature 0; returns metrics."""
        rollout = self._with_sampling(self.sampling.model_copy(update={"temperature": 0.0}))
        groups = self._run("eval_greedy", rollout, tasks, f"eval_greedy/{step:06d}", 1, step)
        episodes = [episode for group in groups for episode in group.episodes]
        return {"eval/greedy_success_rate": _success_rate(episodes)}

    def _with_sampling(self, defaults: SamplingDefaults) -> Rollout:
        gateway = replace(self.rollout.runner.gateway, defaults=defaults)
        runner = replace(self.rollout.runner, gateway=gateway)
        return replace(self.rollout, runner=runner)

    def _run(
        self,
        phase: EpisodePhase,
        rollout: Rollout,
        tasks: Sequence[Task],
        tag: str,
        num_repeat: int,
        step: int,
    ) -> list[Group]:
        done: list[Episode] = []
        self.before()
        with self.progress.phase(TITLES[phase], total=len(tasks) * num_repeat) as shown:

            def keep(episode: Episode) -> None:
                done.append(episode)
                shown.advance()

            try:
                groups = rollout.run(tasks, num_repeat=num_repeat, tag=tag, on_episode_done=keep)
            except BaseException:
                # Nothing is trained on them, so there are no advantages to wait for.
                self.records.write_episodes(step, phase, done)
                raise
        if phase != "train":
            self.records.write_episodes(step, phase, [e for g in groups for e in g.episodes])
        return groups


def _success_rate(episodes: Sequence[Episode]) -> float:
    """Share of successful episodes; a failed episode is no success."""
    return fmean(bool(episode.is_success) for episode in episodes)


def pass_rates(solved: Sequence[int], attempts: int) -> dict[str, float]:
    """`eval/pass@K` for K = 2, 4, 8 ... and the number of attempts, and `eval/all_pass@N`.

    `pass@K` is the unbiased estimate of the chance that at least one of K attempts solves a task
    (arXiv 2107.03374): 1 - C(n-c, K) / C(n, K) for c of n attempts, averaged over the tasks.

    Args:
        solved: for each task, how many of its attempts solved it; at least one task.
        attempts: of each task. With one, `eval/success_rate` says all, and nothing is returned.
    """
    if attempts == 1:
        return {}
    sizes = [2**i for i in range(1, attempts.bit_length()) if 2**i < attempts]
    metrics = {
        f"eval/pass@{k}": fmean(pass_at(k, attempts, count) for count in solved)
        for k in [*sizes, attempts]
    }
    metrics[f"eval/all_pass@{attempts}"] = fmean(count == attempts for count in solved)
    return metrics


def pass_at(k: int, attempts: int, solved: int) -> float:
    """Chance that `k` of the attempts, drawn without replacement, contain a solved one."""
    return 1.0 - comb(attempts - solved, k) / comb(attempts, k)


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
