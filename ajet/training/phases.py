"""The rollouts of a run (training, sampled and greedy validation), and the seconds of each part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import comb
from statistics import fmean

from ajet.gateway.apis.chat_completions.request import SamplingDefaults
from ajet.monitor.episode_log import EpisodePhase
from ajet.monitor.progress import Progress
from ajet.monitor.records import Records
from ajet.schema.episode import Episode, Group
from ajet.schema.task import Task
from ajet.task_rollout.rollout import Rollout

TITLES: dict[EpisodePhase, str] = {
    "train": "rollout",
    "eval": "evaluation",
    "eval_greedy": "greedy evaluation",
}


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
    """Of validation as sampled."""
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


class Stopwatch:
    """Sums the seconds of each named part. CPU seconds count all threads of the process."""

    def __init__(self) -> None:
        self.wall_s: dict[str, float] = {}
        self.cpu_s: dict[str, float] = {}
        self._started = time.perf_counter(), time.process_time()

    @property
    def total_wall_s(self) -> float:
        """Wall seconds since the watch was created."""
        return time.perf_counter() - self._started[0]

    @property
    def total_cpu_s(self) -> float:
        """CPU seconds since the watch was created."""
        return time.process_time() - self._started[1]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the block's time to part `name`."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall_s[name] = self.wall_s.get(name, 0.0) + time.perf_counter() - wall
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + time.process_time() - cpu

    def metrics(self) -> dict[str, float]:
        """`time/NAME_s` and `cpu/NAME_s` of each part."""
        return {f"time/{name}_s": seconds for name, seconds in self.wall_s.items()} | {
            f"cpu/{name}_s": seconds for name, seconds in self.cpu_s.items()
        }
