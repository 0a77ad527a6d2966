"""A rollout for tests that kill it: killed_run.py URL RUN_FOLDER. It says when all have begun."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from ajet import AjetTuner, WorkflowOutput, WorkflowTask
from ajet.monitor.run_record import recorded
from tests.environment.running_service import Counting, Workflow, episodes_on, source_of

NUM_EPISODES = 12
begun = threading.Barrier(NUM_EPISODES, action=lambda: print("begun", flush=True))


class Waiting(Workflow):
    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        begun.wait()
        if workflow_task.task_id == "1":
            return await Counting().execute(workflow_task, tuner)
        threading.Event().wait(600)
        raise AssertionError


if __name__ == "__main__":
    url, folder = sys.argv[1], Path(sys.argv[2])
    with recorded(folder, sys.argv):
        source = source_of(url, run_folder=folder)
        episodes_on(source, [str(number) for number in range(1, NUM_EPISODES + 1)], Waiting)
