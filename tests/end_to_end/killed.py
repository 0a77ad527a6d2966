"""Agents that kill their own process, SIGKILL, always at the same place."""

from __future__ import annotations

import io
import itertools
import os
import signal
from typing import Any, BinaryIO

import torch

from ajet import AjetTuner, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.math_agent_openai import MathAgent

_counter = itertools.count(1)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class InRollout(MathAgent):
    """When the fifth episode of step 4 is over, and others are under way."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        output = await super().execute(workflow_task, tuner)
        if workflow_task.task_tag == "train/000004" and next(_counter) == 5:
            die()
        return output


class InFirstRollout(MathAgent):
    """Before there is any checkpoint."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        output = await super().execute(workflow_task, tuner)
        if workflow_task.task_tag == "train/000001":
            die()
        return output


class InUpdate(MathAgent):
    """Between the two optimizer updates of step 3: the weights are neither old nor new."""

    def model_post_init(self, context: Any) -> None:
        if not hasattr(torch.optim.AdamW.step, "is_ours"):
            self._wrap(torch.optim.AdamW.step)

    @staticmethod
    def _wrap(step: Any) -> None:
        def counted(optimizer: torch.optim.AdamW) -> None:
            step(optimizer)
            if next(_counter) == 5:
                die()

        counted.is_ours = True  # type: ignore[attr-defined]
        torch.optim.AdamW.step = counted  # type: ignore[method-assign]


class InCheckpoint(MathAgent):
    """When half of the trainer's state of step 4 is on disk, after the model's weights."""

    def model_post_init(self, context: Any) -> None:
        if not hasattr(torch.save, "is_ours"):
            self._wrap(torch.save)

    @staticmethod
    def _wrap(save: Any) -> None:
        def half(state: Any, file: BinaryIO) -> None:
            if next(_counter) == 1:
                save(state, file)
                return
            whole = io.BytesIO()
            save(state, whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            die()

        half.is_ours = True  # type: ignore[attr-defined]
        torch.save = half
