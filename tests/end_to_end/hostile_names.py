"""An agent whose names, of agents and of metrics, are paths and worse."""

from __future__ import annotations

from typing import Any

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask

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
    """Its agents have the name of the task, also with half of a surrogate pair; metrics as well.

    The name of a metric must be printable: others are refused, in words.
    """

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        messages: Any = [{"role": "user", "content": workflow_task.task.main_query}]
        name = workflow_task.task.task_id
        for agent in (name, name[:3] + "\ud800"):
            client = tuner.as_raw_openai_sdk_client(agent_name=agent, target_tag=name)
            await client.chat.completions.create(model="policy", messages=messages)
        number = float(len(name) + len(workflow_task.episode_uuid) % 2)
        return WorkflowOutput(reward=number, log_metrics={name: 1.0} if name.isprintable() else {})
