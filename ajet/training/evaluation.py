"""Runs the validation tasks with the current policy and keeps one example of before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ajet.monitor.progress import Stopwatch
from ajet.monitor.summary import AFTER, BEFORE
from ajet.monitor.transcript import Transcript, choose_example, load_transcript, save_transcript
from ajet.schema.episode import Waiting
from ajet.schema.task import Task
from ajet.task_rollout.rollout import Phases


@dataclass(slots=True, kw_only=True, frozen=True)
class Evaluation:
    """Runs the validation tasks: sampled and, if configured, greedy as well."""

    phases: Phases
    tasks: list[Task]
    """The validation tasks; may be empty."""
    greedy: bool
    """Run the tasks at temperature 0 as well."""
    run_folder: Path
    """Gets the transcript of one task before the first step and after the last."""

    def waiting(self) -> list[Waiting]:
        """What its episodes wait for now. Any thread."""
        return self.phases.rollout.waiting()

    def run(self, step: int) -> dict[str, float]:
        """Evaluate and return the metrics, with `time/eval_s`; empty without validation tasks.

        Args:
            step: number of finished steps; 0 before the first.
        """
        if not self.tasks:
            return {}
        watch = Stopwatch()
        with watch.part("eval"):
            metrics, episodes = self.phases.validate(self.tasks, step)
            if self.greedy:
                metrics |= self.phases.validate_greedy(self.tasks, step)
        if step == 0:
            save_transcript(Transcript.of(choose_example(episodes)), self.run_folder, BEFORE)
        before = load_transcript(self.run_folder, BEFORE)
        if step > 0 and before is not None:
            # After every evaluation: a run may end at a target, earlier than its last step.
            same = next(e for e in episodes if e.task.task_id == before.task_id)
            save_transcript(Transcript.of(same), self.run_folder, AFTER)
        return metrics | watch.metrics()
