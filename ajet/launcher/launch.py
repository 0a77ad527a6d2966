"""From a resolved configuration to a finished run."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from ajet.boundary import guarded_log_handlers
from ajet.config.backbones import backbone_entry
from ajet.config.loading.hints import hints, ignored_settings
from ajet.config.loading.load import require_available
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.errors import AjetError, ConfigError, TrainingError
from ajet.launcher.backbones import check_engine, load_backbone, refuse_settings
from ajet.launcher.heartbeat import watched
from ajet.launcher.limits import (
    limits_named,
    raise_file_limit,
    refuse_low_limits,
    refuse_optimized_python,
)
from ajet.launcher.ray_choice import RayChoice, ray_for_run
from ajet.launcher.ray_cluster import RayContext
from ajet.launcher.run_folder import (
    code_of,
    config_kept_if_refused,
    find_run_folder,
    keep_tokenizer,
    locked,
    new_run_folder,
    write_config,
)
from ajet.launcher.services import services_running
from ajet.launcher.signals import hard_exits_raise, sigterm_as_ctrl_c
from ajet.launcher.viewer import require_viewer, viewer_running
from ajet.model_client import PLACE
from ajet.monitor.output import (
    end_log,
    keep_logging,
    log_to,
    log_to_file,
    logging_kept,
    steady_output,
)
from ajet.monitor.run_record import recorded
from ajet.task_reader.read_tasks import TrainingData, make_task_reader
from ajet.training.inputs import RunInputs, UserCode

logger = logging.getLogger(__name__)

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a disk that is full or has become read-only, wherever in a run they come. Of other
errors of the system, only those of a file in the run's folder are no mistake of ours."""


def launch(
    config: RootConfig,
    *,
    command: Sequence[str],
    resume: bool = False,
    ray: RayChoice = RayChoice(),  # noqa: B008
    with_logview: bool = False,
) -> Path:
    """Run a configuration to the end and return the run folder.

    Args:
        config: the resolved configuration.
        command: the command that started this run, for `run.json`.
        resume: continue the latest run of this name in its own folder.
        ray: the Ray cluster that the user asked for.
        with_logview: show the run in the browser while it trains.

    Raises:
        AjetError: the run could not start or could not continue.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was saved.
    """
    raise_file_limit()
    if backbone_entry(config.ajet.backbone).trains:
        refuse_optimized_python()
        refuse_low_limits(config.ajet.rollout.max_env_worker)
    require_available(config)
    refuse_settings(config.ajet)
    check_engine(config.ajet)
    if with_logview:
        require_viewer()
    # Before the user's code is imported: Ray reads its environment variables at import.
    with (
        steady_output(),
        hard_exits_raise(),
        guarded_log_handlers(),
        logging_kept(),
        _folder_to_resume(config, resume) as folder,
        ray_for_run(config.ajet, ray) as ray_context,
    ):
        return _launch(config, command, folder, ray_context, with_logview)


def _launch(
    config: RootConfig,
    command: Sequence[str],
    to_resume: Path | None,
    ray: RayContext | None,
    with_logview: bool,
) -> Path:
    ajet = config.ajet
    PLACE.experiment_dir = _parent(ajet)  # readers may ask models before there is a run folder
    if to_resume:  # somebody else may have made the folder
        named = ", ".join(code_of(config))
        logger.info("--resume runs the code that your configuration names: %s", named)
    with watched(None, ajet.task_runner.unresponsive_timeout_s):
        code, reader = UserCode.load(config), make_task_reader(ajet.task_reader)
        keep_logging()
        data = None if reader.needs_services else TrainingData.read(ajet, reader)
    run = load_backbone(ajet.backbone)
    # The folder is made only now, so that no mistake above leaves an empty one behind.
    folder = to_resume or _new_folder(config)
    log = log_to_file(folder / "logs" / "ajet.log")
    try:
        logger.info("run folder: %s", folder)
        _log_notices(config, has_ray=ray is not None)
        # Left in reverse order: the services and Ray end before the outcome is recorded, and
        # SIGTERM counts as Ctrl-C until all of them have ended.
        with (
            config_kept_if_refused(folder),
            _described(config, folder),
            nullcontext() if to_resume else locked(folder),
            sigterm_as_ctrl_c(),
            recorded(folder, command),
            limits_named(),
            watched(folder, ajet.task_runner.unresponsive_timeout_s),
            viewer_running(folder) if with_logview else nullcontext(),
            ray(folder) if ray else nullcontext(),
            services_running(ajet.task_runner.services, folder),
        ):
            # A reader that asks one of the run's own services can read only now.
            data = data or TrainingData.read(ajet, reader)
            run(config, folder, to_resume is not None, RunInputs(code=code, data=data))
    except AjetError as error:
        log_to(log, error)  # not to the console: the command line prints the error there
        raise
    except OSError as error:
        if error.errno not in _OF_THE_DISK and not str(error.filename).startswith(str(folder)):
            raise
        raise TrainingError(f"{folder}: the run cannot continue: {error}") from error
    finally:
        end_log(log)
    return folder


@contextmanager
def _described(config: RootConfig, folder: Path) -> Iterator[None]:
    """Write what the folder says of the run before it begins."""
    write_config(config, folder)
    keep_tokenizer(config.ajet.model.path, folder)
    yield


def _log_notices(config: RootConfig, *, has_ray: bool) -> None:
    """Log once what the settings do not do, or do differently than they seem to."""
    backbone = config.ajet.backbone
    ignored = ignored_settings(config, backbone)
    if ignored and not backbone_entry(backbone).trains:
        # A file is written for training, so most of its settings are about that.
        logger.info(
            "the backbone %s does not train; `ajet check --backbone=%s` lists the settings "
            "without effect",
            backbone,
            backbone,
        )
    elif ignored:
        have = "has" if len(ignored) == 1 else "have"
        names = ", ".join(ignored)
        logger.warning("%s %s no effect with the backbone %s", names, have, backbone)
    for hint in hints(config.ajet):
        logger.info("%s", hint)
    if has_ray and backbone_entry(backbone).ray_needs is None:
        logger.info("the backbone %s is one process; Ray is there for your code only", backbone)


@contextmanager
def _folder_to_resume(config: RootConfig, resume: bool) -> Iterator[Path | None]:
    """The folder of the run that is to be continued, locked; None for a new run."""
    if not resume:
        yield None
        return
    folder = _find_folder(config)
    with locked(folder):
        yield folder


def _find_folder(config: RootConfig) -> Path:
    ajet = config.ajet
    if not backbone_entry(ajet.backbone).trains:
        raise ConfigError(f"--backbone={ajet.backbone} saves no checkpoint, so it cannot resume")
    return find_run_folder(_parent(ajet), ajet.experiment_name)


def _new_folder(config: RootConfig) -> Path:
    ajet = config.ajet
    name = ajet.experiment_name
    if not backbone_entry(ajet.backbone).trains:
        # The folder gets another name, so that --resume never picks it up as a training run.
        return new_run_folder(_parent(ajet), f"{name}-{ajet.backbone}")
    folder = new_run_folder(_parent(ajet), name)
    if folder.name != name:
        taken = 'a run "%s" exists (--resume continues it); this run is "%s"'
        logger.info(taken, name, folder.name)
    return folder


def _parent(ajet: AjetConfig) -> Path:
    return Path(ajet.experiment_dir).expanduser().resolve()
