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

    cuts: bool = True
    number: int = 2

    def model_post_init(self, context: Any) -> None:
        if torch.save.__name__ != "acting":
            torch.save = self._acting(torch.save)

    def _acting(self, save: Any) -> Any:
        def acting(state: Any, file: BinaryIO) -> None:
            if next(_counter) != self.number:
                save(state, file)
                return
            if self.cuts:
                save(state, file)
                file.truncate(file.tell() // 2)
                self.act()
            else:
                save(state, _ActsAtFirst(file, self.act))

        return acting


class _ActsAtFirst:
    """A file into which a library writes from C: an exception there becomes one of its own."""

    def __init__(self, file: BinaryIO, act: Any) -> None:
        self._file, self._act = file, act

    def write(self, data: bytes) -> int:
        act, self._act = self._act, None
        if act:
            act()
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class AtTheEnd(Act):
    """When every step is saved, and the run draws its curve."""

    def model_post_init(self, context: Any) -> None:
        import ajet.training.loop

        draw = ajet.training.loop.draw_reward_curve
        if draw.__name__ != "acting":
            ajet.training.loop.draw_reward_curve = self._acting(draw)

    def _acting(self, draw: Any) -> Any:
        def acting(folder: Any) -> Any:
            self.act()
            return draw(folder)

        return acting
