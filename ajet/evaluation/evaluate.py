"""Runs the attempts of an evaluation, part by part, so that a killed one continues.

A part is some whole tasks with all of their attempts. It is recorded when it is complete, and one
that is not is run again as a whole: with the embedded engine, the episodes of a part then meet the
same others in the same order, and give the same results as without the kill.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ajet.backbone.debug.remote import open_remote
from ajet.errors import ConfigError
from ajet.evaluation.plan import Plan, changed_settings
from ajet.evaluation.statistics import TaskScores, scores_of
from ajet.evaluation.upstream import with_defaults
from ajet.launcher.backbones import check_libraries
from ajet.launcher.run_folder import keep_tokenizer, locked, write_config
from ajet.launcher.services import services_running
from ajet.monitor.call_store import CallStore
from ajet.monitor.durable_files import read_json_lines, written_aside
from ajet.monitor.episode_log import FILE_NAME as EPISODES
from ajet.monitor.episode_log import EpisodeLog
from ajet.monitor.progress import Progress
from ajet.monitor.rollout_store import RolloutStore
from ajet.monitor.run_record import recorded
from ajet.schema.task import Task
from ajet.task_reader.read_tasks import make_task_reader, training_tasks, validation_tasks
from ajet.task_rollout.rollout import Rollout
from ajet.training.episodes import (
    make_rollout,
    make_runner,
    open_http_endpoint,
)
from ajet.training.inputs import UserCode

logger = logging.getLogger(__name__)

FILE_NAME = "evaluation.json"
"""What is evaluated, and, when all attempts are done, the results."""


def evaluate(plan: Plan, out: Path | None, command: Sequence[str]) -> Path:
    """Make all attempts that are not recorded yet, and return the evaluation's folder.

    Args:
        plan: what to evaluate.
        out: the folder; None: one next to the run, or in `experiment_dir`, named by the plan.
        command: for `run.json`.

    Raises:
        ConfigError: the folder is that of another evaluation, or there are no tasks.
        AjetError: the evaluation cannot continue; the same command continues it later.
    """
    config = plan.subject.config
    ajet = config.ajet
    code, reader = UserCode.load(config), make_task_reader(ajet.task_reader)
    tasks = [] if reader.needs_services else _tasks(plan, reader)
    folder = out or _default_folder(plan, tasks)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not reader.needs_services:
            _claim(folder, plan.identity(tasks))
        write_config(config, folder)
        keep_tokenizer(ajet.model.path, folder)
        with recorded(folder, command), services_running(ajet.task_runner.services, folder):
            if reader.needs_services:
                tasks = _tasks(plan, reader)
                _claim(folder, plan.identity(tasks))
            parts = _parts(tasks, max(1, ajet.rollout.max_env_worker // plan.num_samples))
            done = _finished_parts(folder, parts, plan.num_samples)
            if done:
                logger.info("%d of %d tasks are recorded", sum(map(len, parts[:done])), len(tasks))
            if done < len(parts):
                _run_parts(plan, code, folder, parts, done)
    return folder


def read_identity(folder: Path) -> dict[str, Any]:
    """What an evaluation evaluates.

    Raises:
        ConfigError: the folder is not that of an evaluation, or the file is damaged.
    """
    path = folder / FILE_NAME
    try:
        identity: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["identity"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{folder} is not the folder of an evaluation: {error}") from error
    return identity


def read_scores(folder: Path) -> list[TaskScores]:
    """The scores of the tasks that are recorded.

    Raises:
        ConfigError: the folder is not that of an evaluation.
        DataError: its `episodes.jsonl` is damaged.
    """
    read_identity(folder)
    path = folder / EPISODES
    return scores_of(list(read_json_lines(path)) if path.is_file() else [])


def write_evaluation(folder: Path, content: dict[str, Any]) -> None:
    """Write `evaluation.json`."""
    with written_aside(folder / FILE_NAME) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _tasks(plan: Plan, reader: Any) -> list[Task]:
    tasks = training_tasks(reader) if plan.split == "training" else validation_tasks(reader)
    chosen = list(tasks[: plan.num_tasks])
    if not chosen:
        raise ConfigError(
            "the task reader gives no validation tasks; name a reader that does, or use "
            "--split training"
        )
    return chosen


def _default_folder(plan: Plan, tasks: Sequence[Task]) -> Path:
    subject, ajet = plan.subject, plan.subject.config.ajet
    text = json.dumps(plan.identity(tasks) if tasks else str(plan.sampling()), sort_keys=True)
    mark = hashlib.sha256(text.encode()).hexdigest()[:6]
    if subject.run is not None:
        run = subject.run.resolve()
        return run.parent / f"{run.name}-eval-{subject.step or 'base'}-{mark}"
    parent = Path(ajet.experiment_dir).expanduser().resolve()
    return parent / f"{ajet.experiment_name}-eval-{mark}"


def _claim(folder: Path, identity: dict[str, Any]) -> None:
    """Make the folder that of this evaluation.

    Raises:
        ConfigError: it belongs to another one.
    """
    if (folder / FILE_NAME).is_file():
        before = read_identity(folder)
        differs = [key for key in identity if before.get(key) != identity[key]]
        if "settings" in differs:
            keys = changed_settings(before.get("settings"), identity["settings"])
            differs[differs.index("settings")] = f"settings ({', '.join(keys)})"
        if differs:
            raise ConfigError(
                f"{folder} has another evaluation, with other {', '.join(differs)}; name another "
                "folder with --out"
            )
        return
    if (folder / EPISODES).exists():
        raise ConfigError(f"{folder} is the folder of a run; name another one with --out")
    write_evaluation(folder, {"identity": identity})


def _parts(tasks: Sequence[Task], size: int) -> list[Sequence[Task]]:
    return [tasks[start : start + size] for start in range(0, len(tasks), size)]


def _finished_parts(folder: Path, parts: Sequence[Sequence[Task]], num_samples: int) -> int:
    """How many parts, from the first on, are recorded in full."""
    path = folder / EPISODES
    lines = Counter(line["step"] for line in read_json_lines(path)) if path.is_file() else {}
    done = 0
    while done < len(parts) and lines.get(done + 1) == len(parts[done]) * num_samples:
        done += 1
    return done


def _run_parts(
    plan: Plan, code: UserCode, folder: Path, parts: Sequence[Sequence[Task]], done: int
) -> None:
    # What a killed process wrote of the part after these is dropped here.
    is_new = not (folder / EPISODES).exists()
    resumed = None if is_new else done
    log = EpisodeLog(folder, resumed_step=resumed)
    calls, samples = (
        CallStore(folder, resumed_step=done),
        RolloutStore(folder, resumed_step=done),
    )
    ajet = plan.subject.config.ajet
    total = sum(map(len, parts)) * plan.num_samples
    with (
        # On standard error, so that --json has standard output for itself.
        Progress(Console(file=sys.stderr)) as progress,
        closing(open_http_endpoint(ajet)) as http_endpoint,
        _opened(plan, code, folder, http_endpoint) as (rollout, before),
        progress.phase("evaluation", total=total) as shown,
    ):
        shown.advance(sum(map(len, parts[:done])) * plan.num_samples)
        for number, tasks in enumerate(parts[done:], start=done + 1):
            before()
            groups = rollout.run(
                tasks,
                num_repeat=plan.num_samples,
                tag=f"evaluation/{number:06d}",
                on_episode_done=lambda episode: shown.advance(),
            )
            episodes = [episode for group in groups for episode in group.episodes]
            calls.write(number, groups)
            samples.write(number, episodes)
            log.write(number, "eval", episodes)  # the last: it says that the part is complete


@contextmanager
def _opened(
    plan: Plan, code: UserCode, folder: Path, http_endpoint: Any
) -> Iterator[tuple[Rollout, Any]]:
    """What runs the episodes, and what to call before each part."""
    config = plan.subject.config
    with _model(plan, folder) as (chat_format, engine, before, make_upstream):
        runner = make_runner(config, chat_format, engine, http_endpoint, code, folder)
        gateway = replace(runner.gateway, defaults=plan.sampling(), make_upstream=make_upstream)
        yield make_rollout(config.ajet, replace(runner, gateway=gateway)), before


@contextmanager
def _model(plan: Plan, folder: Path) -> Iterator[tuple[Any, Any, Any, Any]]:
    ajet = plan.subject.config.ajet
    if plan.subject.url is not None:
        with open_remote(ajet) as model:
            logger.info("model: %s", model.title)
            upstream = model.make_upstream and with_defaults(model.make_upstream, plan.sampling())
            yield model.chat_format, model.engine, lambda: None, upstream
        return
    check_libraries("local")
    from ajet.backbone.local.entry import serve_policy
    from ajet.backbone.local.policy import load_policy

    policy = load_policy(ajet.model)
    with closing(serve_policy(ajet, policy, folder, None)) as serving:
        yield policy.chat_format, serving.engine, serving.begin_phase, None
