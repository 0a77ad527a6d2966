"""The base class of workflows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from ajet.class_path import find_function, load_class
from ajet.schema.task import WorkflowOutput, WorkflowTask

if TYPE_CHECKING:
    from ajet.tuner import AjetTuner

__all__ = ["Workflow", "WorkflowOutput", "WorkflowTask", "load_workflow"]


class Workflow(BaseModel):
    """Runs one or several agents on one task. Every episode gets a new instance."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    name: str = "workflow"
    trainable_targets: list[str] | None = None
    """The values of `target_tag` whose calls are trained; None: all calls."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Solve the task with the tuner's model. May block: other episodes continue to run."""
        raise NotImplementedError(
            f"{type(self).__name__} has no execute(): a subclass of ajet.Workflow needs "
            "`async def execute(self, workflow_task, tuner)`"
        )


def load_workflow(class_path: str) -> type[Workflow]:
    """Load the workflow that `ajet.rollout.user_workflow` names.

    An async function `(workflow_task, tuner)` becomes the `execute` of a workflow with its name.

    Raises:
        ConfigError: it cannot be loaded, or its class is not a `Workflow`.
        MissingExtraError: its module imports a library that one of our extras installs.
    """
    key = "ajet.rollout.user_workflow"
    if function := find_function(class_path, key):
        return _workflow_of(function)
    return load_class(class_path, Workflow, key)


def _workflow_of(function: Callable[..., Any]) -> type[Workflow]:
    class FunctionWorkflow(Workflow):
        name: str = function.__name__

        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            output: WorkflowOutput = await function(workflow_task, tuner)
            return output

    return FunctionWorkflow
