"""Which folder a run gets, and its `config.yaml`."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import yaml

from ajet.config.loading.load import to_yaml
from ajet.config.sections.root import RootConfig
from ajet.errors import ConfigError
from ajet.monitor.run_record import FILE_NAME, is_running, read_processes

logger = logging.getLogger(__name__)


def new_run_folder(parent: Path, name: str) -> Path:
    """Make `parent/name`, or `name-2`, `name-3`, ... where that is taken: no run overwrites one.

    Raises:
        ConfigError: the folder cannot be made.
    """
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise ConfigError(f"ajet.experiment_dir: cannot make {folder}: {error}") from error
        else:
            return folder


def find_run_folder(parent: Path, name: str) -> Path:
    """The latest run of that name: of `name`, `name-2`, ... the one with the highest number.

    Where `parent` is itself a run's folder, that is the one.

    Raises:
        ConfigError: there is none, or it is still running.
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
            raise ConfigError(f'--resume: there is no run "{name}" in {parent}')
        folder = numbered[max(numbered)]
    running = [process["pid"] for process in read_processes(folder) if is_running(process)]
    if running:
        raise ConfigError(f"--resume: {folder} is still running, as process {running[0]}")
    return folder


def write_config(config: RootConfig, folder: Path) -> None:
    """Write the resolved configuration; say what differs from what the run had before."""
    path, text = folder / "config.yaml", to_yaml(config)
    if path.is_file():
        before = _flat(yaml.safe_load(path.read_text(encoding="utf-8")))
        now = _flat(yaml.safe_load(text))
        for key in [key for key in before | now if before.get(key) != now.get(key)]:
            logger.warning("%s was %s before, now %s", key, before.get(key), now.get(key))
    path.write_text(text, encoding="utf-8")


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat
