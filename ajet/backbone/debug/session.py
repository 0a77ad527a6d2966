"""Runs episodes one after the other in the main thread, to which debugger and terminal belong."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console

from ajet.algorithm.credit import CreditRule
from ajet.backbone.debug.debugger import breakpoints
from ajet.backbone.debug.problems import (
    malformed_calls,
    problem_of_group,
    problems_of,
    problems_of_text,
)
from ajet.backbone.debug.view import show_episode, show_problem, show_text_episode
from ajet.errors import EpisodeError
from ajet.schema.episode import Episode, Failure, Group, Waiting
from ajet.schema.task import Task
from ajet.task_rollout.group_judging import judge_now, waiting_groups
from ajet.task_rollout.workers import LEAVES_THE_LOOP, run_in_new_loop
from ajet.task_runner.episode_run import Attempt, EpisodeRunner, StartedEpisode
from ajet.task_runner.failures import failure_of
from ajet.task_runner.judging import fail_judged

TAG = "debug"


@dataclass(slots=True, kw_only=True)
class DebugSession:
    """Runs tasks and prints each episode when it ends."""

    runner: EpisodeRunner
    console: Console
    seed: int
    num_repeat: int
    credit: CreditRule
    groups: list[Group] = field(default_factory=list)
    num_problems: int = 0
    running: StartedEpisode | None = None

    @property
    def episodes(self) -> list[Episode]:
        """All episodes that have ended or were interrupted."""
        return [episode for group in self.groups for episode in group.episodes]

    def waiting(self) -> list[Waiting]:
        """What the running episode waits for now. Any thread."""
        own = self.running.waiting(threading.main_thread()) if self.running else []
        return own or waiting_groups()

    def run(self, tasks: Sequence[Task]) -> None:
        """Run every task `num_repeat` times.

        Raises:
            KeyboardInterrupt: Ctrl-C, or `q` in the debugger. The interrupted episode is kept.
        """
        try:
            for index, task in enumerate(tasks):
                self._run_group(index, task)
        finally:
            self.runner.settle()

    def _run_group(self, index: int, task: Task) -> None:
        self.groups.append(Group(task=task))
        for repeat in range(self.num_repeat):
            self._run_one(
                Attempt(seed=self.seed, tag=TAG, task=task, group_index=index, repeat_index=repeat)
            )
        self._judge_group(self.groups[-1])
        self._look_at_group(self.groups[-1])

    def _judge_group(self, group: Group) -> None:
        """Ask a group judge, and show the episodes that waited for it."""
        waiting = [episode for episode in group.episodes if episode.awaits_group]
        judge_now(self.runner, waiting, TAG)
        for episode in waiting:
            self._show(episode)

    def _run_one(self, attempt: Attempt) -> None:
        engine = self.runner.gateway.engine
        run = self.running = self.runner.start(attempt)
        engine.open_session(attempt.episode_id)
        try:
            with breakpoints():
                episode = _run_without_deadline(run)
        except KeyboardInterrupt:
            run.stop(Failure(kind="cancelled", message="interrupted"))
            self._keep(run.episode())
            for episode in self.groups[-1].episodes:
                if episode.awaits_group:
                    fail_judged(episode, EpisodeError("interrupted before the group was judged"))
            raise
        finally:
            engine.close_session(attempt.episode_id)
        self._keep(episode)

    def _keep(self, episode: Episode) -> None:
        self.groups[-1].episodes.append(episode)
        if not episode.awaits_group:
            self._show(episode)

    def _show(self, episode: Episode) -> None:
        title = f"task {episode.task.task_id}"
        if self.num_repeat > 1:
            title += f", repeat {episode.repeat_index + 1} of {self.num_repeat}"
        chat_format = self.runner.gateway.chat_format
        if self.runner.gateway.make_upstream:
            show_text_episode(self.console, episode, title)
            problems = problems_of_text(episode)
        else:
            show_episode(self.console, episode, title, chat_format.tokenizer.decode)
            problems = problems_of(episode, malformed_calls(episode, chat_format))
        for problem in problems:
            self._report(problem)

    def _look_at_group(self, group: Group) -> None:
        """Compute the advantages of a task's repeats, and warn if all are 0."""
        if self.num_repeat == 1:
            return
        report = self.credit([group])
        problem = problem_of_group(group.episodes, not report.zero_variance_groups)
        if problem:
            self._report(f"task {group.task.task_id}: {problem}")

    def _report(self, problem: str) -> None:
        self.num_problems += 1
        show_problem(self.console, problem)


def _run_without_deadline(run: StartedEpisode) -> Episode:
    """Run the episode without a deadline: the user may stop in the debugger for any time."""
    try:
        return run_in_new_loop(run.run())
    except LEAVES_THE_LOOP as error:
        run.stop(failure_of(error, "workflow_error"))
        return run.episode()
