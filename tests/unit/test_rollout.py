"""Many episodes: who runs when, what a failure costs, and how it all ends.

1. Groups come in the order of tasks, episodes in the order of repeats, whatever ends first.
2. At most `max_env_worker` episodes run at once; one that blocks its thread stalls no other.
3. At the deadline an episode is asked to end; one that does not is given up and its place filled.
4. Only an infrastructure fault is tried again.
5. Failed episodes stay in their group as data; too many of them end the run with their causes.
6. Sessions open in a fixed order, the next before the finished one closes, and all are closed.
7. An exception in the waiting thread ends every episode and every thread.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ajet import Workflow, WorkflowOutput
from ajet.errors import TrainingError
from ajet.schema.episode import Episode, Failure, Group
from ajet.schema.task import Task
from ajet.task_rollout import deadlines, workers
from ajet.task_rollout.dynamic_sampling import resample
from ajet.task_rollout.rollout import Rollout
from ajet.task_rollout.rollout_report import check_failures, rollout_metrics
from tests.unit.episode_fakes import (
    ANSWER,
    FakeEngine,
    ask,
    returning,
    rewarded,
    runner_of,
    tasks_of,
)

pytestmark = pytest.mark.filterwarnings("error")


def rollout_of(
    workflow_class: type[Workflow], engine: FakeEngine | None = None, **limits: Any
) -> Rollout:
    return Rollout(runner=runner_of(workflow_class, engine=engine), seed=0, **limits)


def query_of(workflow_task: Any) -> int:
    return int(workflow_task.task.main_query)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "GRACE_S", 0.2)
    monkeypatch.setattr(workers, "GRACE_S", 0.2)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


@pytest.fixture
def collected() -> Iterator[None]:
    """asyncio logs what nobody looked at when it is collected: better here than anywhere."""
    yield
    gc.collect()


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

    class Counted(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
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
                return rewarded(float(others_done.wait(20)))
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


# Deadlines.


def test_an_episode_that_awaits_for_ever_is_cancelled_at_its_deadline() -> None:
    class Hanging(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            if query_of(workflow_task) == 1:
                await asyncio.sleep(60)
            return rewarded()

    started = time.monotonic()
    groups = rollout_of(Hanging, episode_timeout_s=0.3).run(tasks_of(4), num_repeat=1, tag="x")
    assert time.monotonic() - started < 5
    failures = [group.episodes[0].failure for group in groups]
    assert [failure is None for failure in failures] == [True, False, True, True]
    assert failures[1] is not None
    assert failures[1].kind == "timeout"
    assert "0.3 s (rollout.episode_timeout_s)" in failures[1].message


@pytest.mark.usefixtures("short_grace")
def test_an_episode_that_blocks_for_ever_is_given_up_and_its_place_filled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = threading.Event()
    refused: list[str] = []

    class Stuck(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            if query_of(workflow_task) == 0:
                client = tuner.as_raw_openai_sdk_client()
                await ask(tuner)
                release.wait(60)
                try:
                    await client.chat.completions.create(
                        model="policy", messages=[{"role": "user", "content": "hi"}]
                    )
                except BaseException as error:
                    refused.append(str(error))
                    raise
            return rewarded()

    engine = FakeEngine()
    # Its only worker hangs: without a fresh one the other two tasks would never run.
    groups = rollout_of(Stuck, engine, max_env_worker=1, episode_timeout_s=0.5).run(
        tasks_of(3), num_repeat=1, tag="x"
    )
    stuck = groups[0].episodes[0]
    assert stuck.failure is not None
    assert stuck.failure.kind == "timeout"
    assert "release.wait(60)" in stuck.failure.traceback
    assert len(stuck.calls) == 1
    assert [group.episodes[0].reward for group in groups[1:]] == [1.0, 1.0]
    assert "left behind, the 1th" in caplog.text

    release.set()
    deadline = time.monotonic() + 5
    while not refused and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(refused) == 1
    assert engine.num_calls == 1
    assert len(stuck.calls) == 1


def test_what_an_episode_leaves_behind_delays_nobody() -> None:
    release = threading.Event()

    class Leaving(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            self.thread = asyncio.get_running_loop().run_in_executor(None, release.wait, 60)
            self.task = asyncio.create_task(asyncio.sleep(60))
            await asyncio.sleep(0)
            return rewarded()

    started = time.monotonic()
    try:
        groups = rollout_of(Leaving, max_env_worker=1).run(tasks_of(3), num_repeat=1, tag="x")
    finally:
        release.set()
    assert time.monotonic() - started < 5
    assert all(group.valid for group in groups)


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


# Failures.


class FailingForSome(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        await ask(tuner)
        if query_of(workflow_task) < 2:
            raise ValueError(f"tool {query_of(workflow_task)} is broken")
        return rewarded()


def test_a_group_keeps_its_valid_episodes() -> None:
    class SecondFails(Workflow):
        count: int = 0

        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            if workflow_task.episode_uuid == second:
                raise ValueError
            return rewarded()

    second = ""
    clean = rollout_of(SecondFails).run(tasks_of(1), num_repeat=4, tag="x")
    second = clean[0].episodes[1].episode_id
    groups = rollout_of(SecondFails).run(tasks_of(1), num_repeat=4, tag="x")
    assert [episode.repeat_index for episode in groups[0].valid] == [0, 2, 3]
    assert len(groups[0].episodes) == 4


def test_failures_up_to_the_share_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    groups = rollout_of(FailingForSome, max_failure_share=0.5).run(
        tasks_of(4), num_repeat=2, tag="x"
    )
    assert rollout_metrics(groups)["episode/failed"] == 4
    assert "4 of 8 episodes failed" in caplog.text
    assert "2 x workflow_error: ValueError: tool 0 is broken" in caplog.text


def test_more_failures_end_the_run_with_their_causes() -> None:
    done: list[Episode] = []
    with pytest.raises(TrainingError) as raised:
        rollout_of(FailingForSome, max_failure_share=0.49).run(
            tasks_of(4), num_repeat=2, tag="x", on_episode_done=done.append
        )
    text = str(raised.value)
    assert "4 of 8 episodes failed" in text
    assert "2 x workflow_error: ValueError: tool 1 is broken" in text
    assert "max_failure_share = 0.49" in text
    assert text.count("Traceback (most recent call last)") == 1
    assert len(done) == 8


def test_many_different_causes_are_cut_short() -> None:
    failures = [Failure(kind="judge_error", message=f"cause {i}") for i in range(9)]
    episodes = [
        Episode(episode_id=str(i), task=Task(), repeat_index=i, failure=failure)
        for i, failure in enumerate(failures)
    ]
    with pytest.raises(TrainingError, match="and 4 other causes"):
        check_failures([Group(task=Task(), episodes=episodes)], 0.0)


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


# The end.


class Sleeping(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        await ask(tuner)
        if query_of(workflow_task):
            await asyncio.sleep(60)
        return rewarded()


def interrupt(episode: Episode) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_ends_every_episode_and_is_raised_again() -> None:
    engine = FakeEngine()
    rollout = rollout_of(Sleeping, engine, max_env_worker=4)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        rollout.run(tasks_of(20), num_repeat=1, tag="x", on_episode_done=interrupt)
    assert time.monotonic() - started < 4
    opened = sorted(event[1:] for event in engine.events if event[0] == "+")
    closed = sorted(event[1:] for event in engine.events if event[0] == "-")
    assert opened == closed
    assert len(opened) < 8


@pytest.mark.usefixtures("short_grace")
def test_an_interrupt_does_not_wait_for_an_episode_that_blocks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = threading.Event()

    class Stuck(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            if query_of(workflow_task):
                release.wait(60)
            return rewarded()

    engine = FakeEngine()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        rollout_of(Stuck, engine).run(tasks_of(2), num_repeat=1, tag="x", on_episode_done=interrupt)
    assert time.monotonic() - started < 4
    assert len(engine.events) == 4
    assert "does not end" in caplog.text
    release.set()


def test_ctrl_c_ends_a_run_from_outside() -> None:
    import subprocess

    code = (
        "from tests.unit.test_rollout import *\n"
        "def started(): print('started', flush=True)\n"
        "class Waiting(Workflow):\n"
        "    async def execute(self, workflow_task, tuner):\n"
        "        started(); await asyncio.sleep(60)\n"
        "try:\n"
        "    rollout_of(Waiting).run(tasks_of(4), num_repeat=1, tag='x')\n"
        "except KeyboardInterrupt:\n"
        "    print('threads', threading.active_count())\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "started\n"
        child.send_signal(2)
        out, _ = child.communicate(timeout=30)
    assert out.endswith("threads 1\n")
    assert child.returncode == 0


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_what_passes_the_boundary_reaches_the_waiting_thread(error: type[BaseException]) -> None:
    class Interrupting(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            raise error

    with pytest.raises(error):
        rollout_of(Interrupting).run(tasks_of(2), num_repeat=1, tag="x")


@pytest.mark.usefixtures("collected")
def test_an_exit_in_a_task_of_the_workflow_is_its_error() -> None:
    class Exiting(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            await asyncio.gather(self.leave(), asyncio.sleep(1))
            return rewarded()

        async def leave(self) -> None:
            sys.exit(3)

    groups = rollout_of(Exiting, max_failure_share=1.0).run(tasks_of(3), num_repeat=1, tag="x")
    for group in groups:
        failure = group.episodes[0].failure
        assert failure is not None
        assert (failure.kind, failure.message) == ("workflow_error", "SystemExit: 3")


# Metrics.


def test_metrics_of_a_rollout() -> None:
    class Mixed(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            number = query_of(workflow_task)
            for _ in range(number + 1):
                await ask(tuner, text="x" * 10)
            if number == 3:
                raise ValueError
            return rewarded(number, log_metrics={"number": number} if number else {})

    groups = rollout_of(Mixed).run(tasks_of(4), num_repeat=1, tag="x")
    metrics = rollout_metrics(groups)
    num_trained, sampled = 1 + 2 + 3, len(ANSWER)
    assert metrics == {
        "episode/count": 4,
        "episode/failed": 1,
        "episode/success_rate": 0.5,
        "episode/num_calls": 2.5,
        "rollout/retries": 0,
        "reward/mean": 1.0,
        "reward/std": pytest.approx((2 / 3) ** 0.5),
        "tokens/calls": num_trained * (10 + sampled),
        "tokens/trained_sequence": num_trained * (10 + sampled),
        "tokens/sampled": num_trained * sampled,
        "tokens/dropped": 4 * sampled,
        "tokens/merge_ratio": 1.0,
        "workflow/number": 1.5,
    }


def test_what_nothing_is_known_of_is_not_a_metric() -> None:
    assert "reward/mean" not in rollout_metrics([])
    assert rollout_metrics([])["episode/count"] == 0


# Dynamic sampling.


def group_of(name: str) -> Group:
    return Group(task=Task(task_id=name))


def gives_gradient(group: Group) -> bool:
    return group.task.task_id.startswith("good")


def test_flat_groups_are_replaced_by_new_ones() -> None:
    more = iter([[group_of("flat3"), group_of("good4")], [group_of("good5")]])
    asked: list[tuple[int, int]] = []

    def run_more(round_number: int, count: int) -> list[Group]:
        asked.append((round_number, count))
        return next(more)

    groups = [group_of(name) for name in ("flat0", "good1", "flat2")]
    result = resample(groups, gives_gradient=gives_gradient, run_more=run_more, max_rounds=5)
    assert [group.task.task_id for group in result.groups] == ["good4", "good1", "good5"]
    assert [group.task.task_id for group in result.discarded] == ["flat3", "flat0", "flat2"]
    assert asked == [(1, 2), (2, 1)]
    assert result.metrics() == {"rollout/resample_rounds": 2, "rollout/discarded_groups": 3}


def test_resampling_has_an_end_and_keeps_what_it_cannot_replace() -> None:
    result = resample(
        [group_of("flat")],
        gives_gradient=gives_gradient,
        run_more=lambda _, count: [group_of("flat")] * count,
        max_rounds=3,
    )
    assert [group.task.task_id for group in result.groups] == ["flat"]
    assert (result.rounds, len(result.discarded)) == (3, 3)


def test_nothing_is_resampled_where_every_group_gives_a_gradient() -> None:
    result = resample(
        [group_of("good")],
        gives_gradient=gives_gradient,
        run_more=lambda *_: pytest.fail("no round is needed"),
        max_rounds=3,
    )
    assert result.rounds == 0
