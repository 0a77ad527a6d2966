"""An agent whose names, of agents and of metrics, are paths and worse."""

from __future__ import annotations

from typing import Any

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from ajet.errors import EpisodeError

NAMES = (
    "../../escaped",
    "/",
    "/tmp/escaped",
    "a/b\\c",
    "..",
    ".",
    "CON",
    "nul\x00byte",
    "new\nline",
    "\x1b[31m\u202egnirts",
    "%2e%2e%2fescaped",
    "x" * 300,
)
"""What cannot be a file, or would be one elsewhere."""


class HostileNames(Workflow):
    """Its agents, tags and metrics have the name of the task.

    What no file can hold is refused, in words: half of a surrogate pair in the name of an agent,
    and in a metric's all that is not printable.
    """

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        name = workflow_task.task.task_id
        messages: Any = [{"role": "user", "content": workflow_task.task.main_query}]
        client = tuner.as_raw_openai_sdk_client(agent_name=name, target_tag=name)
        await client.chat.completions.create(model="policy", messages=messages)
        for names in (("\ud800", "x"), ("x", "\ud800")):
            try:
                tuner.as_raw_openai_sdk_client(*names)
            except EpisodeError as error:
                refused = str(error)
        return WorkflowOutput(
            reward=float(len(name) + len(workflow_task.episode_uuid) % 2),
            log_metrics={name: 1.0} if name.isprintable() else {},
            metadata={name: refused, "half \ud800": "half \ud800"},
        )
