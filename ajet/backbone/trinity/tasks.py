"""The run's tasks as a Trinity taskset."""

from __future__ import annotations

from typing import Any

from trinity.buffer.buffer_reader import BufferReader
from trinity.common.config import StorageConfig
from trinity.common.workflows import Task as TrinityTask

from ajet.backbone.trinity.run_context import TrinityRunContext
from ajet.backbone.trinity.workflow import BatchOfEpisodes, EpisodeBatch
from ajet.task_reader.read_tasks import TaskBatches


class TaskStream(BufferReader):
    """Reads the tasks of one step at a time and divides them among the runners.

    The order of the tasks is the same as with every other backbone.
    """

    def __init__(self, config: StorageConfig) -> None:
        self._context: TrinityRunContext = config.workflow_args["context"]
        self._batches: TaskBatches = config.workflow_args["batches"]
        if self._context.position is not None:
            self._batches.restore(self._context.position.reader_state)

    async def read(self, batch_size: int | None = None, **_: Any) -> list[TrinityTask]:
        """Read the tasks of the next step."""
        size = self._context.ajet.data.train_batch_size
        tasks = self._batches.next_batch(size)
        state = self._batches.state()
        end = state["num_taken"]
        states = [state | {"num_taken": end - size + i + 1} for i in range(size)]
        pieces = self._context.num_runners
        batches = [
            EpisodeBatch(
                tag=f"train/{end // size:06d}" + (f"/{piece}" if piece else ""),
                tasks=tasks[piece::pieces],
                reader_states=states[piece::pieces],
            )
            for piece in range(min(pieces, size))
        ]
        return [self._task(batch) for batch in batches]

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
