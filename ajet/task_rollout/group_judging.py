"""Judges whole groups, each as soon as its last episode has ended, while other episodes run.

Each group has a thread and an event loop of its own, because a judge may block. A judge that gives
no verdict in time makes failed episodes; its thread is left behind, as that of a workflow would be.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ajet.errors import EpisodeError
from ajet.schema.episode import Episode, Group, Waiting
from ajet.schema.task import WorkflowTask
from ajet.task_judge.base_judge import BaseGroupJudge
from ajet.task_rollout.workers import run_in_new_loop
from ajet.task_runner.episode_run import EpisodeRunner
from ajet.task_runner.judging import fail_judged, judge_group

MAX_GROUPS = 64
"""Groups that are judged at the same time."""
LOOK_S = 0.5
"""How often late groups are looked for."""


def judge_now(runner: EpisodeRunner, episodes: Sequence[Episode], tag: str) -> None:
    """Judge the episodes of a group that wait for it, in this thread; without any, do nothing."""
    waiting = [episode for episode in episodes if episode.awaits_group]
    if not waiting:
        return
    judge, first = runner.judge, waiting[0]
    assert isinstance(judge, BaseGroupJudge), "only a group judge lets episodes wait"
    task = (first.final_task or first.task).model_copy(deep=True)
    workflow_task = WorkflowTask(
        task=task,
        task_id=first.task.task_id,
        episode_uuid=first.episode_id,
        env_type=first.task.env_type,
        task_tag=tag,
        tokenizer=runner.tokenizer,
    )
    who = f"task {first.task.task_id}, its group of {len(waiting)} episodes"
    _open[id(waiting)] = Waiting(what="judge", who=who, since_s=time.time())
    try:
        run_in_new_loop(
            judge_group(judge, workflow_task, waiting, max_retries=runner.judge_retries)
        )
    finally:
        del _open[id(waiting)]


_open: dict[int, Waiting] = {}


def waiting_groups() -> list[Waiting]:
    """The groups of this process that are being judged now. Any thread."""
    return list(_open.values())


@dataclass(slots=True, eq=False)
class _Judged:
    """A group that is being judged."""

    group: Group
    deadline_s: float = math.inf
    """Set when it gets a place: what waits for one is not late."""
    has_place: bool = False
    error: BaseException | None = None


class GroupJudging:
    """Judges the groups of one rollout. All methods are called in one thread.

    Args:
        runner: has the judge.
        tag: name of the phase, for `workflow_task.task_tag`.
        timeout_s: seconds that judging a group may take.
    """

    def __init__(self, runner: EpisodeRunner, tag: str, timeout_s: float) -> None:
        self._runner = runner
        self._tag = tag
        self._timeout_s = timeout_s
        self._places = threading.Semaphore(MAX_GROUPS)
        self._lock = threading.Lock()
        self._ended: queue.SimpleQueue[_Judged] = queue.SimpleQueue()
        self._running: set[_Judged] = set()

    def start(self, group: Group) -> None:
        """Judge a group whose episodes have all ended, in the background, if any waits for it."""
        if not any(episode.awaits_group for episode in group.episodes):
            return
        group.episodes.sort(key=lambda episode: episode.repeat_index)
        judged = _Judged(group)
        self._running.add(judged)
        # A daemon: a judge that blocks forever must not keep the process alive.
        threading.Thread(target=self._judge, args=(judged,), daemon=True).start()

    def ended(self) -> list[Episode]:
        """The episodes that got their verdict since the last call; does not wait."""
        return self._take(wait_s=0.0)

    def finish(self) -> list[Episode]:
        """Wait for all groups; returns the episodes that got their verdict since the last call."""
        episodes: list[Episode] = []
        while self._running:
            next_s = min(judged.deadline_s for judged in self._running) - time.monotonic()
            # Not longer than this: deadlines are set meanwhile, by groups that get a place.
            episodes += self._take(wait_s=min(max(0.0, next_s), LOOK_S))
            for judged in [j for j in self._running if j.deadline_s <= time.monotonic()]:
                self._running.remove(judged)
                episodes += self._give_up(judged)
        return episodes

    def _judge(self, judged: _Judged) -> None:
        self._places.acquire()
        judged.has_place, judged.deadline_s = True, time.monotonic() + self._timeout_s
        try:
            judge_now(self._runner, judged.group.episodes, self._tag)
        except BaseException as error:  # of ours, or Ctrl-C of user code
            judged.error = error
        self._leave_place(judged)
        self._ended.put(judged)

    def _leave_place(self, judged: _Judged) -> None:
        """Let another group be judged; does nothing the second time."""
        with self._lock:
            had_place, judged.has_place = judged.has_place, False
        if had_place:
            self._places.release()

    def _take(self, wait_s: float) -> list[Episode]:
        episodes: list[Episode] = []
        while True:
            try:
                judged = self._ended.get(timeout=wait_s) if wait_s else self._ended.get_nowait()
            except queue.Empty:
                return episodes
            wait_s = 0.0
            if judged not in self._running:
                continue  # it was given up
            self._running.remove(judged)
            if judged.error:
                raise judged.error
            episodes += [e for e in judged.group.episodes if e.judge_s is not None]

    def _give_up(self, judged: _Judged) -> list[Episode]:
        self._leave_place(judged)  # its thread may never end
        limit = f"{self._timeout_s:g} s (rollout.episode_timeout_s)"
        error = EpisodeError(f"the judge of the group gave no verdict within {limit}")
        given_up: list[Episode] = []
        for place, episode in enumerate(judged.group.episodes):
            if episode.awaits_group:
                # A copy: the judge may still answer, and then changes the other one.
                copied = replace(episode, awaits_group=False, judge_s=self._timeout_s)
                fail_judged(copied, error)
                judged.group.episodes[place] = copied
                given_up.append(copied)
        return given_up
