"""What a run says when nothing moves.

1. The console and `run.json` name what is waited for: which episode, in which call, since when.
2. Engine, judge, environment and the user's own code, with its line, are told apart.
3. When something moves again, `run.json` no longer says that it waits.
4. A run in which things move says nothing.
5. The process's gauge counts what is held.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from ajet import Workflow, WorkflowOutput
from ajet.environment.environment import Environment
from ajet.environment.in_process import InProcessSource
from ajet.monitor.process_gauge import process_gauge
from ajet.monitor.progress import Progress
from ajet.monitor.run_record import recorded
from ajet.schema.episode import Waiting
from ajet.task_judge.base_judge import BaseGroupJudge, BaseJudge
from ajet.task_rollout.rollout import Rollout
from ajet.training import quiet_watch
from ajet.training.quiet_watch import QuietWatch
from tests.unit.episode_fakes import FakeEngine, ask, rewarded, runner_of, tasks_of

QUIET_S = 0.3
PATIENCE_S = 60.0


class Asks(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        await ask(tuner)
        await ask(tuner)
        return WorkflowOutput(reward=None if self.name == "judged" else 1.0)


class AsksJudge(Asks):
    name: str = "judged"


class SlowEngine(FakeEngine):
    """Its second call does not end before `go`."""

    def __init__(self, go: threading.Event) -> None:
        super().__init__()
        self.go = go

    async def generate(self, *args: Any, **options: Any) -> Any:
        if self.num_calls == 1:
            await asyncio.to_thread(self.go.wait, PATIENCE_S)
        return await super().generate(*args, **options)


class SlowJudge(BaseJudge):
    def __init__(self, go: threading.Event) -> None:
        super().__init__(None)
        self.go = go

    def compute_reward(self, workflow_task: Any, workflow_output: Any) -> Any:
        self.go.wait(PATIENCE_S)
        return 1.0, True


def blocking(go: threading.Event) -> type[Workflow]:
    class Blocks(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            go.wait(PATIENCE_S)  # the line of Blocks
            return rewarded()

    return Blocks


def suspended(go: threading.Event) -> type[Workflow]:
    class IsSuspended(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            while not go.is_set():
                await asyncio.sleep(0.3)  # the line of IsSuspended
            return rewarded()

    return IsSuspended


class Acts(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        workflow_task.gym_env.step({"role": "user", "content": "go"})
        return rewarded()


class SlowEnvironment(Environment):
    def reset(self) -> str:
        return "ready"

    def step(self, action: Any) -> tuple[str, float, bool, dict[str, Any]]:
        self.options["go"].wait(PATIENCE_S)  # the line of SlowEnvironment
        return "done", 0.0, True, {}


def watched(
    folder: Path, work: Callable[[Progress], Any], sources: Any, go: threading.Event, *words: str
) -> tuple[str, str]:
    """Run `work` until the watch says that it waits for `words`, then let it continue.

    Returns:
        The console's text, and `waiting_for` in `run.json`.
    """
    file = io.StringIO()
    progress = Progress(Console(file=file, width=500))
    record = folder / "run.json"

    def waiting_for() -> str | None:
        text: str | None = json.loads(record.read_text())["processes"][-1].get("waiting_for")
        return text

    with recorded(folder, ["test"]):
        thread = threading.Thread(target=work, args=(progress,), daemon=True)
        with QuietWatch(folder, progress, sources, quiet_s=QUIET_S):
            thread.start()
            deadline = time.monotonic() + PATIENCE_S
            # On a busy machine, it may speak before, such as while the episode makes its client.
            wanted = (f"waiting for {words[0]}", *words[1:])
            while not all(each in (told := waiting_for() or "") for each in wanted):
                assert time.monotonic() < deadline, told
                time.sleep(0.05)
            go.set()
            thread.join(PATIENCE_S)
            deadline = time.monotonic() + PATIENCE_S
            while waiting_for() and time.monotonic() < deadline:
                time.sleep(0.05)
        assert waiting_for() is None
    return file.getvalue(), told


def rollout_with(work: type[Workflow], **options: Any) -> tuple[Rollout, Any]:
    rollout = Rollout(runner=runner_of(work, **options), seed=0)

    def run(progress: Progress, rollout: Rollout = rollout) -> None:
        with progress.phase("rollout", total=1) as phase:
            rollout.run(
                tasks_of(1), num_repeat=1, tag="x", on_episode_done=lambda _: phase.advance()
            )

    return rollout, run


def test_an_engine_that_does_not_answer_is_named_with_agent_and_call(tmp_path: Path) -> None:
    go = threading.Event()
    rollout, run = rollout_with(Asks, engine=SlowEngine(go))
    words = ("engine: ", ", call 2 of agent ")
    console, told = watched(tmp_path, run, rollout.waiting, go, *words)
    assert told.startswith("nothing has moved in rollout 0/1 for ")
    assert told in console


def test_a_judge_that_does_not_answer_is_named(tmp_path: Path) -> None:
    go = threading.Event()
    rollout, run = rollout_with(AsksJudge, judge=SlowJudge(go))
    watched(tmp_path, run, rollout.waiting, go, "judge: task ")


@pytest.mark.parametrize("make", [blocking, suspended])
def test_code_of_the_user_is_named_with_its_line(tmp_path: Path, make: Any) -> None:
    go = threading.Event()
    rollout, run = rollout_with(make(go))
    name = {blocking: "Blocks", suspended: "IsSuspended"}[make]
    place = f" at {__file__}:{line_of(name)}, for "
    watched(tmp_path, run, rollout.waiting, go, "workflow: task ", place)


def test_an_environment_that_does_not_answer_is_named(tmp_path: Path) -> None:
    go = threading.Event()
    rollout, run = rollout_with(Acts)
    source = InProcessSource(SlowEnvironment, {"go": go})
    rollout = replace(rollout, runner=replace(rollout.runner, environments=source))
    words = ("environment: task ", f" at {__file__}:{line_of('SlowEnvironment')}, for ")
    watched(tmp_path, lambda p: run(p, rollout), rollout.waiting, go, *words)


def line_of(name: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith(f"# the line of {name}"))


class SlowGroupJudge(BaseGroupJudge):
    def __init__(self, go: threading.Event) -> None:
        super().__init__(None)
        self.go = go

    def compute_rewards(self, workflow_task: Any, workflow_outputs: Any) -> Any:
        self.go.wait(PATIENCE_S)
        return [(1.0, True) for _ in workflow_outputs]


def test_a_judge_of_groups_that_does_not_answer_is_named(tmp_path: Path) -> None:
    go = threading.Event()
    rollout, run = rollout_with(AsksJudge, judge=SlowGroupJudge(go))
    watched(tmp_path, run, rollout.waiting, go, "judge: ", "its group of 1 episodes")
    assert rollout.waiting() == []


def test_what_the_run_itself_waits_for_is_named_and_many_are_counted(tmp_path: Path) -> None:
    go = threading.Event()
    waits = [
        Waiting(what="buffer", who=f"batch {number}", since_s=time.time() - 100 + number)
        for number in range(8)
    ]
    _, told = watched(
        tmp_path,
        lambda _: go.wait(PATIENCE_S),
        lambda: [] if go.is_set() else waits,
        go,
        "buffer: ",
    )
    first, second = map(int, re.findall(r"buffer: batch [01], for (\d+) s;", told))
    assert 100 <= first < 100 + 2 * PATIENCE_S and first - second == 1
    assert told.endswith("; and 3 more")


def test_a_run_in_which_things_move_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, looks = [0.0], [0]

    def sources() -> list[Waiting]:
        looks[0] += 1
        return []

    def look() -> None:
        """Let the watch look, speak where it has to, which looks a second time, and look again."""
        wanted, deadline = looks[0] + 3, time.monotonic() + PATIENCE_S
        while looks[0] < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    clock = SimpleNamespace(monotonic=lambda: now_s[0], time=time.time)
    monkeypatch.setattr(quiet_watch, "time", clock)
    file = io.StringIO()
    progress = Progress(Console(file=file, width=200))
    with (
        recorded(tmp_path, ["test"]),
        progress.phase("rollout", total=9) as phase,
        QuietWatch(tmp_path, progress, sources, quiet_s=QUIET_S),
    ):
        for _ in range(6):
            now_s[0] += 0.8 * QUIET_S
            look()
            phase.advance()
            look()
        assert "nothing has moved" not in file.getvalue()
        now_s[0] += 1.2 * QUIET_S
        look()
        assert "nothing has moved" in file.getvalue()


COUNTED = ("process/open_files", "process/connections")


def test_the_gauge_counts_files_and_connections() -> None:
    gc.collect()  # what other tests have left open
    for _ in range(100):  # until no other thread opens or closes anything meanwhile
        before = process_gauge()
        with socket.socket(), Path(__file__).open():
            now = process_gauge()
        after = process_gauge()
        if all(before[name] == after[name] for name in COUNTED):
            break
    assert now["process/open_files"] - before["process/open_files"] == 2
    assert now["process/connections"] - before["process/connections"] == 1
    assert now["process/threads"] >= 1
    assert now["process/memory_mb"] > 1
    assert now["process/tasks"] >= 0
