"""The local backbone: everything in one process, on a CPU or one GPU."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

from ajet.backbone.episodes import (
    eval_temperature,
    make_rollout,
    make_runner,
    open_http_door,
)
from ajet.backbone.local.checkpoint import latest_checkpoint, load_checkpoint
from ajet.backbone.local.policy import load_policy
from ajet.backbone.local.serving import EmbeddedServing
from ajet.backbone.local.trainer import PolicyTrainer
from ajet.backbone.local.training_loop import TrainingLoop
from ajet.backbone.phases import Phases
from ajet.config.root import RootConfig
from ajet.errors import TrainingError
from ajet.monitor.progress import Progress
from ajet.monitor.records import Records
from ajet.monitor.reward_curve import draw_reward_curve
from ajet.monitor.summary import print_summary
from ajet.task_reader import make_task_reader
from ajet.task_reader.read_tasks import training_tasks, validation_tasks
from ajet.task_reader.task_batches import TaskBatches
from ajet.tuner.http_door import HttpDoor

logger = logging.getLogger(__name__)


def run(config: RootConfig, run_folder: Path, resume: bool) -> None:
    """Train to the end and show what came of it.

    Raises:
        AjetError: the run cannot start or cannot go on.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    with Progress() as progress, closing(open_http_door(config.ajet)) as http_door:
        loop = _prepare(config, run_folder, resume, progress, http_door)
        try:
            loop.run()
        except OSError as error:
            raise TrainingError(f"{run_folder}: the run cannot go on: {error}") from error
        finally:
            loop.serving.close()
            loop.records.close()
    draw_reward_curve(run_folder)
    print_summary(progress.console, run_folder)


def _prepare(
    config: RootConfig,
    run_folder: Path,
    resume: bool,
    progress: Progress,
    http_door: HttpDoor,
) -> TrainingLoop:
    ajet = config.ajet
    reader = make_task_reader(ajet.task_reader)
    batches = TaskBatches(
        training_tasks(reader), seed=ajet.trainer_common.seed, shuffle=ajet.data.shuffle
    )
    validation = validation_tasks(reader)[: ajet.rollout.validation.num_tasks]
    total_steps = ajet.trainer_common.total_training_steps or batches.num_batches(
        ajet.data.train_batch_size, ajet.trainer_common.total_epochs
    )
    policy = load_policy(ajet.model)
    trainer = PolicyTrainer(policy.model, ajet.trainer_common, total_steps=total_steps)
    step, policy_version, resumed_step = 0, 0, -1 if resume else None
    checkpoint = latest_checkpoint(run_folder / "checkpoints") if resume else None
    if checkpoint is not None:
        position = load_checkpoint(checkpoint, model=policy.model, optimizer=trainer.optimizer)
        step, policy_version = position.step, position.policy_version
        resumed_step = step
        batches.restore(position.reader_state)
    records = Records(run_folder, ajet.trainer_common.logger, resumed_step=resumed_step)
    serving = EmbeddedServing(
        policy, ajet.rollout, seed=ajet.trainer_common.seed, policy_version=policy_version
    )
    runner = make_runner(config, policy.chat_format, serving.engine, http_door)
    phases = Phases(
        rollout=make_rollout(ajet, runner),
        before=serving.begin_phase,
        records=records,
        progress=progress,
        num_repeat=ajet.rollout.num_repeat,
        eval_temperature=eval_temperature(ajet),
    )
    return TrainingLoop(
        config=ajet,
        run_folder=run_folder,
        policy=policy,
        serving=serving,
        trainer=trainer,
        batches=batches,
        validation_tasks=validation,
        phases=phases,
        records=records,
        progress=progress,
        total_steps=total_steps,
        step=step,
        saved_step=step,
    )
