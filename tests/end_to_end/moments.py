"""What happens to a run at which moment: to be mixed into agents, so that it is always the same."""

from __future__ import annotations

import itertools
import os
import signal
from typing import Any, BinaryIO

import torch

from ajet import AjetTuner, WorkflowOutput, WorkflowTask
from ajet.workflow import Workflow

_counter = itertools.count(1)
"""Of the moments that a process has seen, from all threads."""


class Act(Workflow):
    """What happens."""

    def act(self) -> None:
        raise NotImplementedError


class Kill(Act):
    """SIGKILL."""

    def act(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class CtrlC(Act):
    """SIGINT to every process of the run, as a terminal sends it."""

    times: int = 1

    def act(self) -> None:
        for _ in range(self.times):
            os.killpg(os.getpgrp(), signal.SIGINT)


class Terminate(Act):
    """SIGTERM, as a cluster's scheduler or `ajet kill` sends it."""

    def act(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


class AmongEpisodes(Act):
    """When the fifth episode of a phase is over, and others are under way."""

    phase: str

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        output = await super().execute(workflow_task, tuner)
        if workflow_task.task_tag == self.phase and next(_counter) == 5:
            self.act()
        return output


class BetweenUpdates(Act):
    """Between the two optimizer updates of step 3: the weights are neither old nor new."""

    def model_post_init(self, context: Any) -> None:
        step = torch.optim.AdamW.step
        if step.__name__ != "acting":
            torch.optim.AdamW.step = self._acting(step)  # type: ignore[method-assign]

    def _acting(self, step: Any) -> Any:
        def acting(optimizer: torch.optim.AdamW) -> None:
            step(optimizer)
            if next(_counter) == 5:
                self.act()

        return acting


class WithinCheckpoint(Act):
    """In the second checkpoint: the weights are on disk, and half of the trainer's state."""

    def model_post_init(self, context: Any) -> None:
        if torch.save.__name__ != "acting":
            torch.save = self._acting(torch.save)

    def _acting(self, save: Any) -> Any:
        def acting(state: Any, file: BinaryIO) -> None:
            save(state, file)
            if next(_counter) == 2:
                file.truncate(file.tell() // 2)
                self.act()

        return acting
