"""From a resolved configuration to a finished run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from ajet.class_path import load_class
from ajet.config.loading.hints import hints
from ajet.config.loading.ignored import ignored_settings
from ajet.config.sections.root import RootConfig
from ajet.errors import AjetError, ConfigError
from ajet.launcher.backbones import backbone_entry, refuse_settings
from ajet.launcher.logs import log_to, log_to_file
from ajet.launcher.ray_choice import IN_ONE_PROCESS, RayChoice, ray_for_run
from ajet.launcher.ray_cluster import RayContext
from ajet.launcher.run_folder import find_run_folder, new_run_folder, write_config
from ajet.launcher.services import services_running
from ajet.launcher.signals import sigterm_as_ctrl_c
from ajet.monitor.run_record import recorded
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_reader import make_task_reader
from ajet.task_reader.read_tasks import training_tasks, validation_tasks
from ajet.task_reader.task_reader_base import BaseTaskReader
from ajet.workflow import Workflow

logger = logging.getLogger(__name__)


def launch(
    config: RootConfig,
    *,
    command: Sequence[str],
    resume: bool = False,
    ray: RayChoice = RayChoice(),  # noqa: B008
) -> Path:
    """Run to the end, in a folder of its own or, resumed, in the one it had; returns the folder.

    Args:
        config: the resolved configuration.
        command: what started this, for `run.json`.
        resume: go on with the latest run of this name.
        ray: which Ray is around the run.

    Raises:
        AjetError: the run could not start or could not go on.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    refuse_settings(config.ajet)
    with ray_for_run(config.ajet, ray) as surroundings:
        return _launch(config, command, resume, surroundings)


def _launch(
    config: RootConfig, command: Sequence[str], resume: bool, ray: RayContext | None
) -> Path:
    ajet = config.ajet
    folder = _find_folder(config) if resume else None
    _try_inputs(config)
    run = backbone_entry(ajet.backbone)
    folder = folder or _new_folder(config)
    log = log_to_file(folder / "logs" / "ajet.log")
    try:
        logger.info("run folder: %s", folder)
        if ignored := ignored_settings(config, ajet.backbone):
            have = "has" if len(ignored) == 1 else "have"
            names = ", ".join(ignored)
            logger.warning("%s %s no effect with the backbone %s", names, have, ajet.backbone)
        for notice in hints(ajet):
            logger.info("%s", notice)
        if ray and ajet.backbone in IN_ONE_PROCESS:
            logger.info("Ray is for your code; the backbone %s is one process", ajet.backbone)
        write_config(config, folder)
        with (
            sigterm_as_ctrl_c(),
            recorded(folder, command),
            ray(folder) if ray else nullcontext(),
            services_running(ajet.task_runner.services, folder),
        ):
            run(config, folder, resume)
    except AjetError as error:
        log_to(log, error)  # the console gets it from the command line
        raise
    finally:
        logging.getLogger().removeHandler(log)
        log.close()
    return folder


def _find_folder(config: RootConfig) -> Path:
    ajet = config.ajet
    if ajet.backbone == "debug":
        raise ConfigError("--resume: the backbone debug has nothing to go on with")
    return find_run_folder(_parent(config), ajet.experiment_name)


def _new_folder(config: RootConfig) -> Path:
    ajet = config.ajet
    if ajet.backbone == "debug":  # under another name: --resume is not to take it for training
        return new_run_folder(_parent(config), f"{ajet.experiment_name}-debug")
    folder = new_run_folder(_parent(config), ajet.experiment_name)
    if folder.name != ajet.experiment_name:
        taken = '"%s" is taken (--resume would continue it): this run is "%s"'
        logger.info(taken, ajet.experiment_name, folder.name)
    return folder


def _parent(config: RootConfig) -> Path:
    return Path(config.ajet.experiment_dir).expanduser().resolve()


def _try_inputs(config: RootConfig) -> None:
    """Import and read what the user wrote: a mistake is told at once, and leaves no folder."""
    ajet = config.ajet
    load_class(ajet.rollout.user_workflow, Workflow, "ajet.rollout.user_workflow")
    if ajet.task_judge.judge_protocol:
        load_class(ajet.task_judge.judge_protocol, BaseJudge, "ajet.task_judge.judge_protocol")
    if "->" in ajet.task_reader.type:
        load_class(ajet.task_reader.type, BaseTaskReader, "ajet.task_reader.type")
    reader = make_task_reader(ajet.task_reader)
    training_tasks(reader)
    validation_tasks(reader)
