"""How episodes are ended that do not end by themselves.

1. At the deadline an episode is asked to end; one that does not is given up and its place filled.
2. What an episode leaves behind delays nobody.
3. An exception in the waiting thread ends every episode and every thread, and is raised again.
4. What passes the boundary around user code reaches the waiting thread.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from ajet import Workflow, WorkflowOutput
from ajet.schema.episode import Episode
from ajet.task_rollout import workers
from tests.processes.service_processes import ROOT, eventually
from tests.unit.episode_fakes import (
    FakeEngine,
    ask,
    query_of,
    rewarded,
    rollout_of,
    tasks_of,
)

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "GRACE_S", 0.2)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def collected() -> Iterator[None]:
    """asyncio logs what nobody looked at when it is collected: better here than anywhere."""
    with warnings.catch_warnings():  # what earlier tests left is not this test's
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    yield
    gc.collect()


# Deadlines.


def test_an_episode_that_awaits_for_ever_is_cancelled_at_its_deadline(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Hanging(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            if query_of(workflow_task) == 1:
                await asyncio.sleep(60)
            return rewarded()

    started = time.monotonic()
    groups = rollout_of(Hanging, episode_timeout_s=3).run(tasks_of(4), num_repeat=1, tag="x")
    assert time.monotonic() - started < 50
    assert "abandoned" not in caplog.text
    failures = [group.episodes[0].failure for group in groups]
    assert [failure is None for failure in failures] == [True, False, True, True]
    assert failures[1] is not None
    assert failures[1].kind == "timeout"
    assert "3 s (rollout.episode_timeout_s)" in failures[1].message


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
    groups = rollout_of(Stuck, engine, max_env_worker=1, episode_timeout_s=4).run(
        tasks_of(3), num_repeat=1, tag="x"
    )
    stuck = groups[0].episodes[0]
    assert stuck.failure is not None
    assert stuck.failure.kind == "timeout"
    assert "release.wait(60)" in stuck.failure.traceback
    assert len(stuck.calls) == 1
    assert [group.episodes[0].reward for group in groups[1:]] == [1.0, 1.0]
    assert "thread abandoned (1 so far)" in caplog.text

    release.set()
    assert eventually(lambda: refused)
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
    assert time.monotonic() - started < 50
    assert all(group.valid for group in groups)


# The end.


class Sleeping(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        await ask(tuner)
        if query_of(workflow_task):
            await asyncio.sleep(60)
        return rewarded()


def interrupt(episode: Episode) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_ends_every_episode_and_is_raised_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = FakeEngine()
    rollout = rollout_of(Sleeping, engine, max_env_worker=4)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        rollout.run(tasks_of(20), num_repeat=1, tag="x", on_episode_done=interrupt)
    assert time.monotonic() - started < 50
    assert "does not end" not in caplog.text
    opened = sorted(event[1:] for event in engine.events if event[0] == "+")
    closed = sorted(event[1:] for event in engine.events if event[0] == "-")
    assert opened == closed
    assert len(opened) < 8


@pytest.mark.usefixtures("short_grace")
def test_an_interrupt_does_not_wait_for_an_episode_that_blocks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, release = threading.Event(), threading.Event()

    class Stuck(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            if query_of(workflow_task):
                begun.set()
                release.wait(60)
            begun.wait(60)
            return rewarded()

    engine = FakeEngine()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        rollout_of(Stuck, engine).run(tasks_of(2), num_repeat=1, tag="x", on_episode_done=interrupt)
    assert time.monotonic() - started < 50
    assert len(engine.events) == 4
    assert "does not end" in caplog.text
    release.set()


def test_ctrl_c_ends_a_run_from_outside() -> None:
    code = (
        "import asyncio, os, threading\n"
        "from tests.unit.episode_fakes import Workflow, rollout_of, tasks_of\n"
        "class Waiting(Workflow):\n"
        "    async def execute(self, workflow_task, tuner):\n"
        "        os.write(1, b'started\\n')\n"
        "        await asyncio.sleep(60)\n"
        "try:\n"
        "    rollout_of(Waiting).run(tasks_of(4), num_repeat=1, tag='x')\n"
        "except KeyboardInterrupt:\n"
        "    print('threads', threading.active_count())\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "started\n"
        child.send_signal(2)
        out, _ = child.communicate(timeout=50)
    assert out.endswith("threads 1\n")
    assert child.returncode == 0


@pytest.mark.usefixtures("collected")
def test_what_passes_the_boundary_reaches_the_waiting_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Interrupting(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            if query_of(workflow_task):
                await asyncio.sleep(60)
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        rollout_of(Interrupting).run(tasks_of(2), num_repeat=1, tag="x")
    assert "code of task t0 raised KeyboardInterrupt" in caplog.text
    assert "in execute" in caplog.text
    assert "never retrieved" not in caplog.text
    assert "does not end" not in caplog.text
    assert time.monotonic() - started < 50


def test_errors_of_tasks_that_nobody_awaits_are_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_told", {})  # what other tests told counts, too

    class Leaving(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            self.left = asyncio.create_task(self.fail(query_of(workflow_task)))
            await asyncio.sleep(0)
            del self.left
            return rewarded()

        async def fail(self, number: int) -> None:
            raise ValueError(f"in the background {number}")

    groups = rollout_of(Leaving).run(tasks_of(5), num_repeat=1, tag="x")
    gc.collect()
    assert all(group.episodes[0].reward == 1.0 for group in groups)
    assert caplog.text.count("ValueError: in the background") == 1


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
