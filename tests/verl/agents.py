"""Agents whose runs go wrong in the ways that the tests are about."""

from __future__ import annotations

import os
import signal
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from ajet import AjetTuner, WorkflowTask
from tutorial.example_math_agent.math_agent_openai import MathAgent

NAMES = {"vllm": "VLLM::EngineCore", "rank": "ray::WorkerDict"}
"""How the processes that are killed call themselves."""
_first = threading.Lock()
"""For the episode that is the first to come."""


class Failing(MathAgent):
    """A fifth of all episodes fails; in step 2 all of them, in step 3 those of one task in four."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> Any:
        tag, episode = workflow_task.task_tag, workflow_task.episode_uuid
        in_step_three = (
            tag == "train/000003" and zlib.crc32(workflow_task.task_id.encode()) % 4 == 0
        )
        in_train = tag.startswith("train/") and zlib.crc32(episode.encode()) % 5 == 0
        if tag == "train/000002" or in_step_three or in_train:
            raise ConnectionError("the tool does not answer")
        return await super().execute(workflow_task, tuner)


class Killed(MathAgent):
    """The run is killed in its third step."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> Any:
        if workflow_task.task_tag == "train/000003":
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().execute(workflow_task, tuner)


class Interrupted(MathAgent):
    """Ctrl-C in the third step: the terminal sends it to every process of the group."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> Any:
        if workflow_task.task_tag == "train/000003" and _first.acquire(blocking=False):
            os.killpg(0, signal.SIGINT)
        return await super().execute(workflow_task, tuner)


class WithoutVllm(MathAgent):
    """vLLM is killed in the second step."""

    victim: str = "vllm"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> Any:
        if workflow_task.task_tag == "train/000002":
            kill(NAMES[self.victim])
        return await super().execute(workflow_task, tuner)


class WithoutRank(WithoutVllm):
    """The worker that trains is killed while the second step's episodes run."""

    victim: str = "rank"


class KillsItsProcess(MathAgent):
    """The process that runs the episode is killed, once, in the second step."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> Any:
        done = Path(os.environ["AJET_TEST_KILLED"])
        if workflow_task.task_tag == "train/000002":
            with suppress(FileExistsError):
                done.touch(exist_ok=False)  # in one process, although several may come at once
                os.kill(os.getpid(), signal.SIGKILL)
        return await super().execute(workflow_task, tuner)


def kill(name: str) -> None:
    """Kill the processes below this one that call themselves so."""
    for process in psutil.Process().children(recursive=True):
        try:
            if " ".join(process.cmdline()).startswith(name):
                process.kill()
        except psutil.NoSuchProcess:
            continue
