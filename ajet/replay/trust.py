"""What a command would execute because the run folder names it: nothing, unless the user trusts it.

A run folder may come from somebody else. Its `config.yaml` can name a Python file beside it, and
the optimizer's files of verl's checkpoints are pickles, whose loading executes what they contain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ajet.config.backbones import backbone_entry
from ajet.config.sections.root import RootConfig
from ajet.errors import ConfigError

CLASS_PATH = re.compile(r"\S.*->\w+")
NOT_RUN = ("ajet.rollout.user_workflow", "ajet.backbone", "ajet.trainer_common.logger")
"""Keys whose code a replay never imports."""


def refuse_unknown_code(
    config: RootConfig, given: Sequence[str], *, with_training: bool, where: str
) -> None:
    """Refuse to execute code that the configuration of a run folder names.

    Args:
        config: the configuration of the run folder with the user's overrides.
        given: the overrides; what they name is the user's own choice.
        with_training: whether checkpoints are loaded.
        where: the run folder, for the message.

    Raises:
        ConfigError: something would be executed; the message lists it.
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
    if found:
        raise ConfigError(
            f"{where}: the command would execute code of this run folder: {'; '.join(found)}. "
            "If you trust it, add --trust"
        )


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
