"""The run's tasks as Trinity's taskset."""

from __future__ import annotations

from typing import Any

from trinity.buffer.buffer_reader import BufferReader
from trinity.common.config import StorageConfig
from trinity.common.workflows import Task as TrinityTask

from ajet.backbone.trinity.plan import TrinityRunContext
from ajet.backbone.trinity.workflow import BatchOfEpisodes, EpisodeBatch
from ajet.task_reader.task_batches import TaskBatches


class TaskStream(BufferReader):
    """A step's tasks at a time, in the order of every backbone, cut into a piece a runner."""

    def __init__(self, config: StorageConfig) -> None:
        self._plan: TrinityRunContext = config.workflow_args["plan"]
        self._batches: TaskBatches = config.workflow_args["batches"]
        if self._plan.position is not None:
            self._batches.restore(self._plan.position.reader_state)

    async def read(self, batch_size: int | None = None, **_: Any) -> list[TrinityTask]:
        """The next step's."""
        size = self._plan.ajet.data.train_batch_size
        tasks = self._batches.next_batch(size)
        state = self._batches.state()
        end = state["num_taken"]
        states = [state | {"num_taken": end - size + i + 1} for i in range(size)]
        pieces = self._plan.num_runners
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
        """Nothing: the position is in the run's own checkpoints."""
        return {"current_index": 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing."""

    def _task(self, batch: EpisodeBatch) -> TrinityTask:
        return TrinityTask(
            workflow=BatchOfEpisodes,
            repeat_times=1,
            workflow_args={"plan": self._plan},
            raw_task={"batch": batch},
        )
