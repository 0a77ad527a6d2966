"""The run's tasks as a Trinity taskset."""

from __future__ import annotations

from typing import Any

from ray import cloudpickle
from trinity.buffer.buffer_reader import BufferReader
from trinity.common.config import StorageConfig
from trinity.common.workflows import Task as TrinityTask

from ajet.backbone.trinity.mailbox import find_mailbox
from ajet.backbone.trinity.run_context import TrinityRunContext
from ajet.backbone.trinity.workflow import BatchOfEpisodes, EpisodeBatch
from ajet.schema.task import Task
from ajet.task_reader.task_batches import TaskBatches


class TaskStream(BufferReader):
    """Reads the tasks of one step at a time and divides them among the runners.

    The order of the tasks is the same as with every other backbone. In an asynchronous run, a
    curriculum chooses them by the results that are there.
    """

    def __init__(self, config: StorageConfig) -> None:
        self._context: TrinityRunContext = config.workflow_args["context"]
        self._batches: TaskBatches = config.workflow_args["batches"]
        # The main process has restored the position; Trinity gives each reader a copy.
        self._step = self._batches.num_taken // self._context.ajet.data.train_batch_size

    async def read(self, batch_size: int | None = None, **_: Any) -> list[TrinityTask]:
        """Read the tasks of the next step."""
        if self._batches.uses_results:
            await self._observe()
        self._step += 1
        size = self._context.ajet.data.train_batch_size
        tasks: list[Task] = []
        states: list[dict[str, Any]] = []
        while len(tasks) < size:
            tasks += self._batches.next_batch(1, self._step)
            states.append(self._batches.state())
        indices = self._batches.indices_of(tasks)
        pieces = self._context.num_runners
        batches = [
            EpisodeBatch(
                tag=f"train/{self._step:06d}" + (f"/{piece}" if piece else ""),
                tasks=tasks[piece::pieces],
                reader_states=states[piece::pieces],
                indices=indices[piece::pieces],
            )
            for piece in range(min(pieces, size))
        ]
        return [self._task(batch) for batch in batches]

    async def _observe(self) -> None:
        """Take in the results that have come since the last step was read."""
        mailbox = find_mailbox(self._context.namespace)
        for results in await mailbox.take_results.remote():
            self._batches.observe(self._step, cloudpickle.loads(results))

    def state_dict(self) -> dict[str, int]:
        """A placeholder: the position in the data is part of the run's own checkpoints."""
        return {"current_index": 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: the position comes from the run's own checkpoints."""

    def _task(self, batch: EpisodeBatch) -> TrinityTask:
        return TrinityTask(
            workflow=BatchOfEpisodes,
            repeat_times=1,
            workflow_args={"context": self._context},
            raw_task={"batch": batch},
        )
