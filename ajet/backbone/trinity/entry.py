"""Entry point of the Trinity backbone: rollout and training run in parallel processes."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

from rich.console import Console

from ajet.backbone.ray_common.output import redirect_output
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.errors import TrainingError
from ajet.monitor.progress import Progress
from ajet.monitor.records import Records
from ajet.monitor.reward_curve import draw_reward_curve
from ajet.monitor.summary import print_summary
from ajet.monitor.task_results import read_task_results
from ajet.service.private_folder import private_folder, temporary_files_in
from ajet.task_rollout.rollout import Phases
from ajet.training.episode_process import isolated
from ajet.training.episodes import (
    make_rollout,
    make_runner,
    open_http_endpoint,
    validation_sampling,
)
from ajet.training.evaluation import Evaluation
from ajet.training.goals import Goals
from ajet.training.inputs import RunInputs
from ajet.training.loop import ignore_interrupts
from ajet.training.model_folder import chat_format_of, device_of


def run(config: RootConfig, run_folder: Path, resume: bool, inputs: RunInputs) -> None:
    """Train to the last step, then draw the reward curve and print the summary.

    Raises:
        AjetError: the run cannot start or cannot continue.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    # With the file bound here, progress stays visible while Trinity's output is redirected.
    console = Console(file=sys.stdout)
    with Progress(console) as progress, private_folder("tmp") as temporary:
        try:
            _run(config, run_folder, resume, inputs, progress, temporary)
        except OSError as error:
            raise TrainingError(f"{run_folder}: the run cannot continue: {error}") from error
        ignore_interrupts()
        draw_reward_curve(run_folder)
        print_summary(progress.console, run_folder)


def _run(
    config: RootConfig,
    run_folder: Path,
    resume: bool,
    inputs: RunInputs,
    progress: Progress,
    temporary: Path,
) -> None:
    ajet, data = config.ajet, inputs.data
    device = device_of(ajet.model.device)
    _set_environment(ajet, device)
    # Trackers that Trinity imports make temporary folders when they are imported.
    with temporary_files_in(temporary), redirect_output(run_folder / "logs" / "trinity.log"):
        from ajet.backbone.trinity.engine import TrinityEngine
        from ajet.backbone.trinity.run_context import make_run_context
        from ajet.backbone.trinity.session import TrinitySession
        from ajet.backbone.trinity.starting import started

    context = make_run_context(
        config, run_folder, device=device, total_steps=data.total_steps, resume=resume
    )
    step = context.position.step if context.position else 0
    if context.position is not None:  # before `Records`: a refused run loses nothing
        data.batches.require_same(context.position.reader_state)
    records = Records(
        run_folder,
        config,
        resumed_step=(step or -1) if resume else None,
    )
    if context.position is not None:  # after `Records`, which drops the results of later steps
        data.batches.restore(context.position.reader_state, read_task_results(run_folder))
    with (
        closing(records),
        closing(open_http_endpoint(ajet)) as http_endpoint,
        started(context, data.batches, progress) as actors,
    ):
        engine = TrinityEngine(actors.models, max_model_len=context.max_model_len)
        chat_format = chat_format_of(ajet.model, context.model_folder)
        runner = make_runner(config, chat_format, engine, http_endpoint, inputs.code, run_folder)
        phases = Phases(
            rollout=make_rollout(ajet, isolated(runner, config, run_folder)),
            before=lambda: None,
            records=records,
            progress=progress,
            num_repeat=1,
            sampling=validation_sampling(ajet.rollout),
            val_pass_n=ajet.trainer_common.val_pass_n,
        )
        TrinitySession(
            context=context,
            actors=actors,
            evaluation=Evaluation(
                phases=phases,
                tasks=data.validation,
                greedy=ajet.rollout.validation.greedy,
                run_folder=run_folder,
            ),
            records=records,
            progress=progress,
            batches=data.batches,
            goals=Goals(ajet.trainer_common, run_folder, validates=bool(data.validation)),
            step=step,
        ).run()


def _set_environment(ajet: AjetConfig, device: str) -> None:
    """Set variables that libraries read at import, in this process and in Ray's workers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if device == "cpu":
        from ajet.backbone.trinity.cpu.settings import environment

        os.environ.update(
            environment(
                kv_cache_gb=ajet.rollout.vllm.kv_cache_gb, num_threads=ajet.model.torch_num_threads
            )
        )
