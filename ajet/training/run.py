"""Builds the training loop around a backbone's engine and trainer."""

from __future__ import annotations

from pathlib import Path

from ajet.algorithm.credit import credit_rule
from ajet.config.sections.root import RootConfig
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.monitor.progress import Progress
from ajet.monitor.records import Records
from ajet.monitor.task_results import read_task_results
from ajet.task_rollout.rollout import Phases
from ajet.training.checkpoints import Position
from ajet.training.episode_process import isolated
from ajet.training.episodes import make_rollout, make_runner, validation_sampling
from ajet.training.inputs import RunInputs
from ajet.training.loop import TrainingLoop
from ajet.training.protocols import Policy


def make_loop(
    config: RootConfig,
    run_folder: Path,
    inputs: RunInputs,
    policy: Policy,
    *,
    resume: bool,
    position: Position | None,
    progress: Progress,
    http_endpoint: HttpEndpoint,
) -> TrainingLoop:
    """The training loop, at step 0 or at the position of a checkpoint.

    Raises:
        CheckpointError: the checkpoint was made with other tasks or in another order.
    """
    ajet, data = config.ajet, inputs.data
    step = position.step if position else 0
    resumed_step = step if position else -1
    if position is not None:  # before `Records`: a refused run loses nothing
        data.batches.require_same(position.reader_state)
    records = Records(run_folder, config, resumed_step=resumed_step if resume else None)
    if position is not None:  # after `Records`, which drops the results of later steps
        data.batches.restore(position.reader_state, read_task_results(run_folder))
    runner = make_runner(
        config,
        policy.chat_format,
        policy.serving.engine,
        http_endpoint,
        inputs.code,
        run_folder,
    )
    if policy.executor is None:
        runner = isolated(runner, config, run_folder)
    phases = Phases(
        rollout=make_rollout(ajet, runner, policy.executor),
        before=policy.serving.begin_phase,
        records=records,
        progress=progress,
        num_repeat=ajet.rollout.num_repeat,
        sampling=validation_sampling(ajet.rollout),
        val_pass_n=ajet.trainer_common.val_pass_n,
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
