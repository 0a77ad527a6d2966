"""A training loop whose rollouts, updates and evaluations are made up: no model, no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from ajet.algorithm.credit import credit_rule
from ajet.config.sections.root import RootConfig
from ajet.monitor.progress import Progress
from ajet.monitor.records import Records
from ajet.schema.episode import Group
from ajet.schema.task import Task
from ajet.task_reader.task_batches import TaskBatches
from ajet.task_rollout.rollout import Phases
from ajet.training.checkpoints import Position, list_checkpoints, written_checkpoint
from ajet.training.loop import TrainingLoop
from tests.make_samples import make_episode
from tests.unit.config_files import MINIMAL

TASKS = [Task(task_id=f"t{number}", main_query="?") for number in range(4)]


def nothing(*_: object) -> None:
    """What happens where a test gives nothing else."""


@dataclass
class FakeRun:
    """The loop of a run in `folder`, and what happened in it."""

    folder: Path
    common: dict[str, Any] = field(default_factory=dict)
    """Section `trainer_common`."""
    steps: int = 4
    evaluations: dict[int, float] = field(default_factory=dict)
    """Step -> success on the validation tasks; 0.5 where nothing is given."""
    on_rollout: Callable[[int], None] = nothing
    before_update: Callable[[int], None] = nothing
    on_update: Callable[[int], None] = nothing
    on_save: Callable[[Path], None] = nothing
    saved: list[int] = field(default_factory=list)

    def loop(self, *, resumed_step: int | None = None) -> TrainingLoop:
        settings = {"logger": "console", "test_freq": 1, "val_before_train": False, **self.common}
        raw = yaml.safe_load(MINIMAL)["ajet"]
        raw |= {"trainer_common": settings, "data": {"train_batch_size": 2}}
        raw["rollout"]["validation"] = {"greedy": False}
        config = RootConfig.model_validate({"ajet": raw})
        return TrainingLoop(
            config=config.ajet,
            run_folder=self.folder,
            serving=cast(Any, FakeServing()),
            trainer=cast(Any, FakeTrainer(self)),
            credit=credit_rule("grpo"),
            save=self.save,
            logprob_diff_bound=None,
            batches=TaskBatches(TASKS, seed=0, shuffle=False),
            validation_tasks=TASKS[:1],
            phases=cast(Phases, FakePhases(self)),
            records=Records(self.folder, config, resumed_step=resumed_step),
            progress=Progress(),
            total_steps=self.steps,
            step=resumed_step or 0,
            policy_version=resumed_step or 0,
            saved_step=resumed_step or 0,
        )

    def save(self, position: Position) -> None:
        keep = self.common.get("max_checkpoints_to_keep")
        with written_checkpoint(self.checkpoints, position, max_to_keep=keep) as partial:
            (partial / "weights").write_text(str(position.policy_version))
            self.on_save(partial)
        self.saved.append(position.step)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def kept(self) -> list[int]:
        """The steps whose checkpoints are there."""
        return [int(path.name.removeprefix("step_")) for path in list_checkpoints(self.checkpoints)]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()
        ]


class FakeServing:
    lockstep_missed = 0

    def publish(self, policy_version: int) -> dict[str, float]:
        return {}


@dataclass
class FakeTrainer:
    run: FakeRun
    updates: int = 0

    def update(self, samples: Any, *, step: int, policy_version: int) -> dict[str, float]:
        self.run.before_update(step)
        self.updates += 1
        self.run.on_update(step)
        return {"policy/loss": 0.0}


@dataclass
class FakePhases:
    run: FakeRun

    def train(self, tasks: list[Task], step: int, part: int = 0) -> list[Group]:
        self.run.on_rollout(step)
        return [
            Group(task=task, episodes=[make_episode(f"{task.task_id}-{n}", n) for n in range(2)])
            for task in tasks
        ]

    def validate(self, tasks: list[Task], step: int) -> tuple[dict[str, float], list[Any]]:
        value = self.run.evaluations.get(step, 0.5)
        episode = make_episode(f"v{step}", value)
        episode.task = tasks[0]
        return {"eval/success_rate": value, "eval/reward_mean": value}, [episode]
