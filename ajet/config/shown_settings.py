"""Settings for people and trackers: `config.yaml` as dotted keys, with secrets left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MAX_DEPTH = 12
MAX_KEYS = 5000
"""An alias in YAML may stand for a mapping that contains itself, or for billions of keys."""
HIDDEN = "(hidden)"

_SECRET = re.compile(
    r"(^|[._-])((api|access|private|secret)[_-]?key|password|passwd|passphrase|secret|token"
    r"|credentials?|authorization)$",
    re.I,
)
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_OPTION = re.compile(r"^(?P<key>[^=]+)=(?P<value>.+)$", re.S)


def read_settings(run_dir: Path) -> tuple[dict[str, Any], str | None]:
    """The settings, and what is wrong with the file if something is."""
    path = run_dir / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}, "config.yaml is not there: settings cannot be shown"
    except OSError as error:
        return {}, f"config.yaml cannot be read: {error.strerror}"
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}, "config.yaml is not whole YAML: settings cannot be shown"
    if not isinstance(data, dict):
        return {}, "config.yaml is empty: settings cannot be shown"
    settings: dict[str, Any] = {}
    for key, value in flat_without_secrets(data):
        if len(settings) >= MAX_KEYS:
            return settings, f"config.yaml has more than {MAX_KEYS} keys: the rest is left out"
        settings[key] = value
    return settings, None


def without_secrets(command: list[str]) -> list[str]:
    """A command line whose `key=value` arguments give no secret away."""
    shown = []
    for argument in command:
        match = _OPTION.match(argument)
        secret = match and _SECRET.search(match["key"])
        shown.append(f"{match['key']}={HIDDEN}" if match and secret else argument)
    return shown


def flat_without_secrets(data: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every setting; the value of a secret is replaced."""
    if isinstance(data, dict) and data and depth < MAX_DEPTH:
        is_environment = prefix.rpartition(".")[2] == "env"
        for key, value in data.items():
            name = f"{prefix}.{key}" if prefix else str(key)
            if (is_environment or _SECRET.search(str(key))) and value not in (None, {}, [], ""):
                yield name, HIDDEN
            else:
                yield from flat_without_secrets(value, name, depth + 1)
    elif isinstance(data, list) and any(isinstance(each, dict | list) for each in data):
        for number, each in enumerate(data if depth < MAX_DEPTH else ()):
            yield from flat_without_secrets(each, f"{prefix}[{number}]", depth + 1)
    else:
        yield prefix, _leaf(data)


def _leaf(value: Any) -> Any:
    if isinstance(value, dict) and value:
        return "(deeper)"
    if isinstance(value, list):
        return [_leaf(each) for each in value[:MAX_KEYS]]
    if isinstance(value, str):
        return _USER_IN_URL.sub(HIDDEN, value)
    return value if isinstance(value, int | float | bool | None) else str(value)
