"""The base class of what users write: an agent's work on one task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from ajet.schema.task import WorkflowOutput, WorkflowTask

if TYPE_CHECKING:
    from ajet.tuner import AjetTuner

__all__ = ["Workflow", "WorkflowOutput", "WorkflowTask"]


class Workflow(BaseModel):
    """An agent, or several, at work on one task. Every episode gets a fresh instance."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    name: str = "workflow"
    trainable_targets: list[str] | None = None
    """The `target_tag`s that are trained; None: all."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Solve the task with the tuner's model. It may block: other episodes go on."""
        raise NotImplementedError(f"{type(self).__name__} has no execute()")
