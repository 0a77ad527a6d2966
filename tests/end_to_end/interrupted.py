"""Agents that press Ctrl-C: SIGINT to every process of the run, as a terminal sends it."""

from __future__ import annotations

import itertools
import os
import signal
from typing import Any

import torch

from ajet import AjetTuner, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.math_agent_openai import MathAgent

_counter = itertools.count(1)


def press_ctrl_c() -> None:
    os.killpg(os.getpgrp(), signal.SIGINT)


class _After(MathAgent):
    tag: str
    """Of the phase in which the fifth episode to end presses Ctrl-C."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        output = await super().execute(workflow_task, tuner)
        if workflow_task.task_tag == self.tag and next(_counter) == 5:
            press_ctrl_c()
        return output


class InRollout(_After):
    tag: str = "train/000004"


class InEvaluation(_After):
    tag: str = "eval/000002"


class InFirstEvaluation(_After):
    tag: str = "eval/000000"


class InUpdate(MathAgent):
    """Between the two optimizer updates of step 3."""

    times: int = 1

    def model_post_init(self, context: Any) -> None:
        if not hasattr(torch.optim.AdamW.step, "is_ours"):
            self._wrap(torch.optim.AdamW.step)

    def _wrap(self, step: Any) -> None:
        def counted(optimizer: torch.optim.AdamW) -> None:
            step(optimizer)
            if next(_counter) == 5:
                for _ in range(self.times):
                    press_ctrl_c()

        counted.is_ours = True  # type: ignore[attr-defined]
        torch.optim.AdamW.step = counted  # type: ignore[method-assign]


class TwiceInUpdate(InUpdate):
    """Impatient: the second one does not wait for the end of the step."""

    times: int = 2
