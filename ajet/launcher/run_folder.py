"""Finds or makes the folder of a run and writes its `config.yaml`."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ajet.config.loading.load import to_yaml
from ajet.config.sections.root import RootConfig
from ajet.errors import ConfigError
from ajet.monitor.best_checkpoint import linked_checkpoint
from ajet.monitor.run_record import FILE_NAME, is_running, read_processes
from ajet.schema.task import exceeds
from ajet.training.checkpoints import list_checkpoints

logger = logging.getLogger(__name__)

LOCK = ".lock"
"""Name of the file that a run's process locks; it holds the process's id."""

BASE, BEST, LATEST = "base", "best", "latest"
"""Name the model that a run started from, the best checkpoint and the newest one, instead of a
step."""

TOKENIZER_FILE = "tokenizer.json"
MOST_BYTES = 8 * 2**20
"""The largest size of the settings in a `config.yaml`."""


def new_run_folder(parent: Path, name: str) -> Path:
    """Make the folder `parent/name`, or `name-2`, `name-3`, ... if earlier runs have those names.

    Raises:
        ConfigError: the folder cannot be made.
    """
    number = 1
    # mkdir itself decides whether a name is free: of two runs that start together only one gets it.
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise ConfigError(
                f"ajet.experiment_dir: cannot make the folder {folder}: {error}"
            ) from error
        else:
            return folder


def find_run_folder(parent: Path, name: str) -> Path:
    """The folder of the run of this name to continue, of `name`, `name-2`, ...

    It is the one with the highest number that is not finished; if all are finished, the one with
    the highest number. If `parent` is itself the folder of a run, it is returned.

    Raises:
        ConfigError: there is no such run, or it is still running.
    """
    if (parent / FILE_NAME).is_file():
        folder = parent
    else:
        numbered = {
            int(match[1] or 1): path.parent
            for path in parent.glob(f"*/{FILE_NAME}")
            if (match := re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", path.parent.name))
        }
        if not numbered:
            others = [f'"{path.parent.name}"' for path in parent.glob(f"*/{FILE_NAME}")]
            hint = f"; there is {', '.join(sorted(others)[:5])}" if others else ""
            if (parent / name).is_dir():
                hint = f", because {parent / name} has no {FILE_NAME}"
            raise ConfigError(f'--resume: there is no run "{name}" in {parent}{hint}')
        folder = _latest(numbered)
    running = [process["pid"] for process in read_processes(folder) if is_running(process)]
    if running:
        raise ConfigError(
            f"--resume: the run in {folder} is still running as process {running[0]}; end it with "
            f"ajet kill {folder}"
        )
    return folder


def _latest(numbered: dict[int, Path]) -> Path:
    """The latest run that is not finished, and a line that says which finished ones are newer."""
    newest = numbered[max(numbered)]
    finished: list[str] = []
    for number in sorted(numbered, reverse=True):
        processes = read_processes(numbered[number])
        if not processes or processes[-1]["outcome"] != "finished":
            if finished:
                logger.warning(
                    "continuing %s, which is not finished; finished and newer: %s "
                    "(--exp-dir %s would continue the newest)",
                    numbered[number],
                    ", ".join(finished),
                    newest,
                )
            return numbered[number]
        finished.append(numbered[number].name)
    return newest


def checkpoint_of(run: Path, asked: str | None) -> tuple[int, Path | None]:
    """The step and its checkpoint; 0 and None for the base model.

    Args:
        run: the run's folder.
        asked: a step, `latest`, `best` or `base`; None: the newest checkpoint.

    Raises:
        ConfigError: there is no such checkpoint.
    """
    if asked in (BASE, "0"):
        return 0, None
    there = {
        int(path.name.removeprefix("step_")): path for path in list_checkpoints(run / "checkpoints")
    }
    best = linked_checkpoint(run)
    steps = ", ".join(map(str, there)) or "none"
    if asked in (None, LATEST) and there:
        step = max(there)
    elif asked == BEST and best in there.values():
        step = next(step for step, path in there.items() if path == best)
    elif asked == BEST:
        raise ConfigError(
            f"{run}: no checkpoint is known as the best one, because no validation result after "
            f"one is on record; checkpoints of steps: {steps}"
        )
    elif asked is not None and asked.isdecimal() and int(asked) in there:
        step = int(asked)
    else:
        raise ConfigError(
            f"{run}: no checkpoint of step {asked or 'any'}; there are: {steps}. {BASE}, {LATEST} "
            f"and {BEST} are names, too"
        )
    return step, there[step]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder until the block is left, so that one process at a time works on it.

    The lock ends with its process, however that ends, and forked children do not inherit it.

    Raises:
        ConfigError: another process holds it.
    """
    path = folder / LOCK
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise ConfigError(
                f"--resume: process {file.read().strip()} works on the run in {folder}; wait until "
                f"it has ended, or end it with  ajet kill {folder}"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def config_kept_if_refused(folder: Path) -> Iterator[None]:
    """Put `config.yaml` back as it was if a resumed run fails before it changes the records.

    One that fails later keeps the new configuration, with which it has worked.
    """
    path = folder / "config.yaml"
    before, records = (path.read_bytes() if path.is_file() else None), _records_mark(folder)
    try:
        yield
    except BaseException:
        if before is not None and _records_mark(folder) == records:
            path.write_bytes(before)
        raise


def _records_mark(folder: Path) -> tuple[int, int] | None:
    """What changes as soon as a run writes a step, or drops one that will run again."""
    try:
        found = (folder / "metrics.jsonl").stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def write_config(config: RootConfig, folder: Path) -> None:
    """Write the resolved configuration; warn of every setting that a resumed run changes."""
    path, text = folder / "config.yaml", to_yaml(config)
    if path.is_file() and (before := _settings_in(path)) is not None:
        now = _flat(yaml.safe_load(text))
        for key in [key for key in before | now if before.get(key) != now.get(key)]:
            logger.warning("%s was %s before and is %s now", key, before.get(key), now.get(key))
    path.write_text(text, encoding="utf-8")


def code_of(config: RootConfig) -> list[str]:
    """The code that a run of this configuration executes: class paths and services' commands."""
    settings = _flat(yaml.safe_load(to_yaml(config)))
    paths = {value for value in settings.values() if isinstance(value, str) and "->" in value}
    services = config.ajet.task_runner.services
    return [*sorted(paths), *(shlex.join(service.command) for service in services)]


def _settings_in(path: Path) -> dict[str, Any] | None:
    """The settings in a run's `config.yaml`; None, with a warning, if it is damaged."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("it has no settings")
        if exceeds(data, MOST_BYTES):  # aliases can stand for billions of entries
            raise ValueError(f"its settings have more than {MOST_BYTES // 2**20} MB")
        return _flat(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        logger.warning(
            "%s is damaged and is written anew, so it cannot be said which settings changed: %s",
            path,
            reason,
        )
        return None


def keep_tokenizer(model: str, folder: Path) -> None:
    """Copy the model's `tokenizer.json`, so that the folder alone says what its token ids mean.

    Of a model on the hub, only what is in the local cache is copied; a checkpoint has it later.
    """
    source: Path | str | None = Path(model).expanduser() / TOKENIZER_FILE
    try:
        if not Path(model).expanduser().exists():
            from huggingface_hub import try_to_load_from_cache

            found = try_to_load_from_cache(model, TOKENIZER_FILE)
            source = found if isinstance(found, str) else None
        if source is not None and Path(source).is_file():
            (folder / "tokenizer").mkdir(exist_ok=True)
            shutil.copyfile(source, folder / "tokenizer" / TOKENIZER_FILE)
    except (ImportError, OSError, ValueError) as error:  # a viewer misses it, training does not
        logger.info("%s of %s is not kept: %s", TOKENIZER_FILE, model, error)


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """One flat mapping with dotted keys, from nested mappings."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat
