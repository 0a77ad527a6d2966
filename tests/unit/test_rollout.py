"""Many episodes: who runs when, and what is tried again.

1. Groups come in the order of tasks, episodes in the order of repeats, whatever ends first.
2. At most `max_env_worker` episodes run at once; one that blocks its thread stalls no other.
3. Sessions open in a fixed order, the next before the finished one closes, and all are closed.
4. Only an infrastructure fault is tried again.
5. The run goes back to its working directory, wherever episodes went.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ajet import Workflow, WorkflowOutput
from ajet.schema.episode import Episode
from ajet.task_rollout import workers
from ajet.task_rollout.rollout import Rollout, rollout_metrics
from ajet.task_rollout.workers import run_in_new_loop
from tests.unit.episode_fakes import (
    FakeEngine,
    ask,
    query_of,
    returning,
    rewarded,
    rollout_of,
    runner_of,
    tasks_of,
)

pytestmark = pytest.mark.filterwarnings("error")


# Order and concurrency.


def test_groups_and_repeats_are_in_order_whatever_ends_first() -> None:
    class Shuffled(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            await asyncio.sleep(0.02 * (hash(workflow_task.episode_uuid) % 3))
            return rewarded(query_of(workflow_task))

    ended: list[Episode] = []
    groups = rollout_of(Shuffled).run(
        tasks_of(4), num_repeat=3, tag="train/1", on_episode_done=ended.append
    )
    assert [group.task.task_id for group in groups] == ["t0", "t1", "t2", "t3"]
    for number, group in enumerate(groups):
        assert [episode.repeat_index for episode in group.episodes] == [0, 1, 2]
        assert [episode.reward for episode in group.episodes] == [number] * 3
    assert {id(e) for e in ended} == {id(e) for group in groups for e in group.episodes}


def test_episode_ids_depend_on_names_only_and_never_repeat() -> None:
    def ids(tag: str, seed: int, max_env_worker: int = 64) -> list[str]:
        rollout = Rollout(
            runner=runner_of(returning(rewarded(), agents=())),
            seed=seed,
            max_env_worker=max_env_worker,
        )
        twice = tasks_of(2) + tasks_of(1)
        groups = rollout.run(twice, num_repeat=2, tag=tag)
        return [episode.episode_id for group in groups for episode in group.episodes]

    assert ids("train/1", 0) == ids("train/1", 0, max_env_worker=1)
    every = ids("train/1", 0) + ids("train/2", 0) + ids("train/1", 1)
    assert len(set(every)) == len(every) == 18


def test_no_more_episodes_run_than_there_are_workers() -> None:
    running, most = [0], [0]
    lock = threading.Lock()
    three_run = threading.Barrier(3)

    class Counted(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            three_run.wait(60)
            time.sleep(0.01)
            with lock:
                running[0] -= 1
            return rewarded()

    rollout_of(Counted, max_env_worker=3).run(tasks_of(12), num_repeat=1, tag="x")
    assert most[0] == 3


def test_an_episode_that_blocks_stalls_no_other() -> None:
    others_done = threading.Event()

    class Blocking(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            if query_of(workflow_task) == 0:
                return rewarded(float(others_done.wait(60)))
            await ask(tuner)
            return rewarded()

    done: list[Episode] = []

    def count(episode: Episode) -> None:
        done.append(episode)
        if len(done) == 7:
            others_done.set()

    groups = rollout_of(Blocking, max_env_worker=2).run(
        tasks_of(8), num_repeat=1, tag="x", on_episode_done=count
    )
    assert groups[0].episodes[0].reward == 1.0
    assert done[-1] is groups[0].episodes[0]


# Retries.


def test_an_infrastructure_fault_is_tried_again_and_counted() -> None:
    engine = FakeEngine(num_faults=2)
    groups = rollout_of(returning(rewarded()), engine, max_retries=2).run(
        tasks_of(1), num_repeat=1, tag="x"
    )
    episode = groups[0].episodes[0]
    assert episode.failure is None
    assert episode.retries == 2
    assert len(episode.calls) == 1
    assert engine.num_calls == 3
    assert rollout_metrics(groups)["rollout/retries"] == 2
    sessions = [event[1:] for event in engine.events if event[0] == "+"]
    assert len(set(sessions)) == 3
    assert episode.episode_id == sessions[-1]


def test_retries_have_an_end() -> None:
    groups = rollout_of(
        returning(rewarded()), FakeEngine(num_faults=9), max_retries=1, max_failure_share=1.0
    ).run(tasks_of(1), num_repeat=1, tag="x")
    episode = groups[0].episodes[0]
    assert episode.failure is not None
    assert (episode.failure.kind, episode.retries) == ("engine_error", 1)


@pytest.mark.parametrize("fault", [ValueError("mine"), None])
def test_the_workflows_own_faults_are_not_tried_again(fault: Exception | None) -> None:
    runs: list[int] = []

    class Failing(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> Any:
            runs.append(1)
            if fault:
                raise fault

    groups = rollout_of(Failing, max_failure_share=1.0).run(tasks_of(1), num_repeat=1, tag="x")
    assert groups[0].valid == []
    assert len(runs) == 1


# Sessions.


@pytest.mark.parametrize("max_env_worker", [1, 2, 3, 100])
def test_the_next_session_opens_before_the_finished_one_closes(max_env_worker: int) -> None:
    engine = FakeEngine()
    groups = rollout_of(returning(rewarded()), engine, max_env_worker=max_env_worker).run(
        tasks_of(4), num_repeat=2, tag="x"
    )
    in_order = [episode.episode_id for group in groups for episode in group.episodes]
    opened = [event[1:] for event in engine.events if event[0] == "+"]
    closed = [event[1:] for event in engine.events if event[0] == "-"]
    assert opened == in_order
    assert sorted(closed) == sorted(in_order)

    width = min(max_env_worker, 8)
    num_open = [0]
    for event in engine.events:
        num_open.append(num_open[-1] + (1 if event[0] == "+" else -1))
    assert engine.events[:width] == [f"+{name}" for name in in_order[:width]]
    while_waiting = num_open[width : len(num_open) - width]
    assert all(count >= width for count in while_waiting)


def test_no_episode_begins_before_the_first_sessions_are_open() -> None:
    engine = FakeEngine()
    seen: list[int] = []

    class Looking(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            seen.append(len([event for event in engine.events if event[0] == "+"]))
            return rewarded()

    rollout_of(Looking, engine, max_env_worker=8).run(tasks_of(8), num_repeat=1, tag="x")
    assert min(seen) == 8


# The process.


def test_the_run_stays_in_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)

    class Leaving(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            with tempfile.TemporaryDirectory() as own:
                os.chdir(own)
            await ask(tuner)  # loads a client, although there is no directory
            return rewarded()

    groups = rollout_of(Leaving).run(tasks_of(3), num_repeat=1, tag="x")
    assert [group.episodes[0].reward for group in groups] == [1.0, 1.0, 1.0]
    assert Path.cwd() == tmp_path
    assert caplog.text.count("user code changed the working directory") == 1


def test_a_lock_that_another_loop_releases_lets_its_waiter_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "LOOK_EVERY_S", 0.01)
    lock = asyncio.Lock()
    taken, waits = threading.Event(), threading.Event()

    async def holds() -> None:
        async with lock:
            taken.set()
            while not waits.is_set():
                await asyncio.sleep(0.01)

    async def waits_for_it() -> None:
        waiting = asyncio.ensure_future(lock.acquire())
        await asyncio.sleep(0)  # until it is in the lock's queue
        waits.set()
        await waiting

    holder = threading.Thread(target=lambda: run_in_new_loop(holds()), daemon=True)
    holder.start()
    assert taken.wait(60)
    waiter = threading.Thread(target=lambda: run_in_new_loop(waits_for_it()), daemon=True)
    waiter.start()
    waiter.join(60)
    assert not waiter.is_alive(), "the loop of the waiter sleeps for ever"
    holder.join(60)
