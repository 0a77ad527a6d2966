"""Command-line overrides such as `rollout.num_repeat=4`; the value is parsed as YAML."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ajet.config.loading.agentjet_keys import VERL_SECTIONS
from ajet.config.loading.yaml_file import Settings, parse_value
from ajet.config.sections.root import AjetConfig
from ajet.errors import did_you_mean

COMMAND_LINE = "command line"


def apply_overrides(settings: Settings, overrides: Iterable[str]) -> list[str]:
    """Apply each `key.path=value` to the settings; return a line for each one that fails.

    A path starts at `ajet.`, at a section of `ajet`, or at one of the user's own sections. In the
    user's sections only keys that the file has can be set, because nothing would find a typing
    mistake. Keys under `ajet` are checked together with those of the file.
    """
    problems = []
    for override in overrides:
        try:
            key, value = _split(override)
            set_key(settings, _known_path(key, settings.data), value, COMMAND_LINE)
        except ValueError as error:
            problems.append(f"{COMMAND_LINE}: {override}: {error}")
    return problems


def key_path(key: str) -> tuple[str, ...]:
    """The complete path: adds `ajet` if the first key is one of its sections."""
    path = tuple(key.split("."))
    return ("ajet", *path) if path[0] in AjetConfig.model_fields else path


def set_key(settings: Settings, path: tuple[str, ...], value: Any, place: str) -> None:
    """Set one key; missing sections above it are created."""
    section = settings.data
    for depth, key in enumerate(path[:-1], start=1):
        if not isinstance(section.get(key), dict):
            section[key] = {}
            settings.places[path[:depth]] = place
        section = section[key]
    section[path[-1]] = value
    for known in [known for known in settings.places if known[: len(path)] == path]:
        del settings.places[known]
    settings.places[path] = place


def typed_values(settings: Settings) -> set[str]:
    """The texts that the command line gave, also those in lists."""
    found: set[str] = set()
    for path in [path for path, place in settings.places.items() if place == COMMAND_LINE]:
        value: Any = settings.data
        for key in path:  # AgentJet's names have been translated: some are no longer there
            value = value.get(key) if isinstance(value, dict) else None
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                # A class path names the file in its first part.
                found |= {text, text.partition("->")[0], text.rpartition(":")[0]}
    return found


def _split(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if key.startswith(("+", "~")):
        raise ValueError(f"expected key.path=value, without `{key[0]}`, which is Hydra's")
    if not equals or not all(key.split(".")):
        raise ValueError("expected key.path=value")
    return key, parse_value(text)


def _known_path(key: str, data: dict[str, Any]) -> tuple[str, ...]:
    path = key_path(key)
    if path == ("ajet",):
        raise ValueError("expected a key below ajet")
    if path[0] == "ajet":
        return path
    if path[0] in VERL_SECTIONS and path[0] not in data:
        raise ValueError(f"settings of verl are below verl: write verl.{key}=...")
    section: Any = data
    for depth, name in enumerate(path):
        known = section if isinstance(section, dict) else {}
        if name not in known:
            where = f"{'.'.join(path[:depth])} has no key" if depth else "there is no section"
            names = known if depth else [*AjetConfig.model_fields, *known]
            raise ValueError(f'{where} "{name}"{did_you_mean(name, names)}')
        section = known[name]
    return path
