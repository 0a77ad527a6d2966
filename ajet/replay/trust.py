"""What a command would do because the run folder says so: nothing, unless the user trusts it.

A run folder may come from somebody else. Its `config.yaml` can name a Python file beside it; it can
name a server and an environment variable whose value that server gets as a key; and the optimizer's
files of verl's checkpoints are pickles, whose loading executes what they contain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from ajet.config.backbones import backbone_entry
from ajet.config.sections.root import RootConfig
from ajet.environment.protocol import LOOPBACK
from ajet.errors import ConfigError

CLASS_PATH = re.compile(r"\S.*->\w+")
NOT_RUN = ("ajet.rollout.user_workflow", "ajet.backbone", "ajet.trainer_common.logger")
"""Keys whose code a replay never imports."""


def refuse_unknown_code(
    config: RootConfig,
    given: Sequence[str],
    *,
    with_training: bool,
    where: str,
    asks_models: bool = True,
) -> None:
    """Refuse to execute code, and to ask servers, that the configuration of a run folder names.

    Args:
        config: the configuration of the run folder with the user's overrides.
        given: the overrides; what they name is the user's own choice.
        with_training: whether checkpoints are loaded.
        where: the run folder, for the message.
        asks_models: whether a judge may ask a model that has not answered before.

    Raises:
        ConfigError: something would be executed or asked; the message lists it.
    """
    own = {f"ajet.{override.partition('=')[0].removeprefix('ajet.')}" for override in given}
    found = [
        f"{key} names {path}"
        for key, path in _class_paths(config.ajet.model_dump(), "ajet")
        if key not in own and not key.startswith(NOT_RUN)
    ]
    if with_training and backbone_entry(config.ajet.backbone).trainer == "verl":
        found.append(
            "the optimizer's files of the checkpoint are pickles (left out with --no-train)"
        )
    servers = _servers(config.ajet.task_judge.model_dump(), "ajet.task_judge")
    asked = [text for key, text in servers if asks_models and key not in own]
    would = [f"execute code of this run folder: {'; '.join(found)}"] if found else []
    would += [f"ask servers that it names: {'; '.join(asked)}"] if asked else []
    if would:
        raise ConfigError(
            f"{where}: the command would {', and '.join(would)}. If you trust it, add --trust"
        )


def _servers(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Key and description of each server that gets a key, or is not on this machine."""
    if isinstance(value, dict):
        url, variable = value.get("base_url"), value.get("api_key_env")
        if isinstance(url, str) and (variable or urlsplit(url).hostname not in LOOPBACK):
            key_of = f" and the key in {variable}" if variable else ""
            yield f"{key}.base_url", f"{url} gets the questions of {key}{key_of}"
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for name, child in children:
        if isinstance(child, dict | list | tuple):
            yield from _servers(child, f"{key}.{name}")


def _class_paths(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every setting that names code outside of this package."""
    if isinstance(value, dict):
        for name, child in value.items():
            yield from _class_paths(child, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _class_paths(child, key)
    elif isinstance(value, str) and not value.startswith("ajet.") and CLASS_PATH.fullmatch(value):
        yield key, value
