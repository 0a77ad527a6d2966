"""A training run from its parts: the same around every backbone's engine and trainer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ajet.algorithm.registry import credit_rule
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.errors import TrainingError
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.monitor.progress import Progress
from ajet.monitor.records import Records
from ajet.monitor.reward_curve import draw_reward_curve
from ajet.monitor.summary import print_summary
from ajet.schema.task import Task
from ajet.task_reader.read_tasks import make_task_reader, training_tasks, validation_tasks
from ajet.task_reader.task_batches import TaskBatches
from ajet.training.checkpoints import Position
from ajet.training.episodes import eval_temperature, make_rollout, make_runner
from ajet.training.loop import TrainingLoop
from ajet.training.phases import Phases
from ajet.training.protocols import Policy


@dataclass(slots=True, kw_only=True)
class TrainingData:
    """What a run trains and is validated on."""

    batches: TaskBatches
    validation: list[Task]
    total_steps: int

    @classmethod
    def read(cls, ajet: AjetConfig) -> TrainingData:
        """The configured tasks."""
        reader = make_task_reader(ajet.task_reader)
        common = ajet.trainer_common
        batches = TaskBatches(training_tasks(reader), seed=common.seed, shuffle=ajet.data.shuffle)
        return cls(
            batches=batches,
            validation=validation_tasks(reader)[: ajet.rollout.validation.num_tasks],
            total_steps=common.total_training_steps
            or batches.num_batches(ajet.data.train_batch_size, common.total_epochs),
        )


def make_loop(
    config: RootConfig,
    run_folder: Path,
    data: TrainingData,
    policy: Policy,
    *,
    resume: bool,
    position: Position | None,
    progress: Progress,
    http_endpoint: HttpEndpoint,
) -> TrainingLoop:
    """The loop, at its beginning or at the checkpoint's `position`.

    Raises:
        CheckpointError: the checkpoint belongs to other tasks or another order.
    """
    ajet = config.ajet
    if position is not None:
        data.batches.restore(position.reader_state)
    step = position.step if position else 0
    resumed_step = step if position else -1
    records = Records(run_folder, config, resumed_step=resumed_step if resume else None)
    runner = make_runner(
        config, policy.chat_format, policy.serving.engine, http_endpoint, run_folder
    )
    phases = Phases(
        rollout=make_rollout(ajet, runner, policy.executor),
        before=policy.serving.begin_phase,
        records=records,
        progress=progress,
        num_repeat=ajet.rollout.num_repeat,
        eval_temperature=eval_temperature(ajet),
    )
    return TrainingLoop(
        config=ajet,
        run_folder=run_folder,
        serving=policy.serving,
        trainer=policy.trainer,
        credit=credit_rule(ajet.trainer_common.algorithm.adv_estimator),
        save=policy.save,
        logprob_diff_bound=policy.logprob_diff_bound,
        batches=data.batches,
        validation_tasks=data.validation,
        phases=phases,
        records=records,
        progress=progress,
        total_steps=data.total_steps,
        step=step,
        policy_version=position.policy_version if position else 0,
        saved_step=step,
    )


def run_to_the_end(loop: TrainingLoop) -> None:
    """Train, close, draw the curve and print the summary.

    Raises:
        AjetError: the run cannot go on.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    try:
        loop.run()
    except OSError as error:
        raise TrainingError(f"{loop.run_folder}: the run cannot go on: {error}") from error
    finally:
        loop.serving.close()
        loop.records.close()
    draw_reward_curve(loop.run_folder)
    print_summary(loop.progress.console, loop.run_folder)
