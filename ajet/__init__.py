"""AgentJet tunes the model behind an agent: give it a workflow, tasks and a reward.

    from ajet import Workflow, WorkflowTask, WorkflowOutput, AjetTuner

Names are imported when they are first used, so that `import ajet` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ajet.debug_point import bp
    from ajet.job import AgentJetJob
    from ajet.schema.task import Task, WorkflowOutput, WorkflowTask
    from ajet.tuner import AjetTuner
    from ajet.workflow import Workflow

__version__ = "0.1.0"

__all__ = [
    "AgentJetJob",
    "AjetTuner",
    "Task",
    "Workflow",
    "WorkflowOutput",
    "WorkflowTask",
    "__version__",
    "bp",
]

_HOMES = {
    "AgentJetJob": "ajet.job",
    "AjetTuner": "ajet.tuner",
    "Task": "ajet.schema.task",
    "Workflow": "ajet.workflow",
    "WorkflowOutput": "ajet.schema.task",
    "WorkflowTask": "ajet.schema.task",
    "bp": "ajet.debug_point",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ajet' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
