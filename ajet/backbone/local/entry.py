"""The local backbone: everything in one process, on a CPU or one GPU."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from pathlib import Path

from ajet.backbone.local.checkpoint import latest_checkpoint, load_checkpoint
from ajet.backbone.local.phases import Phases
from ajet.backbone.local.policy import Policy, load_policy, serve
from ajet.backbone.local.records import Records
from ajet.backbone.local.trainer import PolicyTrainer
from ajet.backbone.local.training_loop import TrainingLoop
from ajet.class_path import load_class
from ajet.config.root import AjetConfig, RootConfig
from ajet.context_tracker.samples import SampleLimits
from ajet.engine.embedded.engine import EmbeddedEngine
from ajet.errors import TrainingError
from ajet.monitor.progress import Progress
from ajet.monitor.reward_curve import draw_reward_curve
from ajet.monitor.summary import print_summary
from ajet.task_judge import make_judge
from ajet.task_reader import make_task_reader
from ajet.task_reader.read_tasks import training_tasks, validation_tasks
from ajet.task_reader.task_batches import TaskBatches
from ajet.task_rollout.rollout import Rollout
from ajet.task_runner.episode_runner import EpisodeRunner
from ajet.tuner.chat_request import SamplingDefaults
from ajet.tuner.gateway import Gateway
from ajet.tuner.http_door import HttpDoor
from ajet.workflow import Workflow

logger = logging.getLogger(__name__)


def run(config: RootConfig, run_folder: Path, resume: bool) -> None:
    """Train to the end and show what came of it.

    Raises:
        AjetError: the run cannot start or cannot go on.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    with Progress() as progress, closing(_http_door(config.ajet)) as http_door:
        loop = _prepare(config, run_folder, resume, progress, http_door)
        try:
            loop.run()
        except OSError as error:
            raise TrainingError(f"{run_folder}: the run cannot go on: {error}") from error
        finally:
            asyncio.run(loop.engine.aclose())
            loop.records.close()
    draw_reward_curve(run_folder)
    print_summary(progress.console, run_folder)


def _http_door(ajet: AjetConfig) -> HttpDoor:
    """With a place for each episode, because a lockstep engine waits for all of them."""
    settings = ajet.interchange_server
    places = max(settings.max_concurrent_requests, ajet.rollout.max_env_worker)
    return HttpDoor(settings.model_copy(update={"max_concurrent_requests": places}))


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
    engine = serve(
        policy, ajet.rollout, seed=ajet.trainer_common.seed, policy_version=policy_version
    )
    phases = Phases(
        rollout=_rollout(config, policy, engine, http_door),
        engine=engine,
        records=records,
        progress=progress,
        num_repeat=ajet.rollout.num_repeat,
        eval_temperature=_eval_temperature(ajet),
    )
    return TrainingLoop(
        config=ajet,
        run_folder=run_folder,
        policy=policy,
        engine=engine,
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


def _rollout(
    config: RootConfig, policy: Policy, engine: EmbeddedEngine, http_door: HttpDoor
) -> Rollout:
    ajet = config.ajet
    settings = ajet.rollout
    gateway = Gateway(
        chat_format=policy.chat_format,
        engine=engine,
        defaults=SamplingDefaults(
            max_tokens=settings.max_response_length_in_one_turn,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
        ),
        call_timeout_s=settings.call_timeout_s,
        http_door=http_door,
    )
    runner = EpisodeRunner(
        workflow_class=load_class(settings.user_workflow, Workflow, "ajet.rollout.user_workflow"),
        gateway=gateway,
        config=config,
        judge=make_judge(ajet.task_judge.judge_protocol, config),
        tokenizer=policy.chat_format.tokenizer,
        limits=SampleLimits(
            max_prompt_length=ajet.data.max_prompt_length,
            max_response_length=ajet.data.max_response_length,
            max_samples=settings.multi_turn.max_sample_per_task,
        ),
    )
    return Rollout(
        runner=runner,
        seed=ajet.trainer_common.seed,
        max_env_worker=settings.max_env_worker,
        episode_timeout_s=settings.episode_timeout_s,
        max_retries=settings.max_retries,
        max_failure_share=settings.max_failure_share,
    )


def _eval_temperature(ajet: AjetConfig) -> float:
    own = ajet.rollout.validation.temperature
    return ajet.rollout.temperature if own is None else own
