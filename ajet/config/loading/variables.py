"""`${NAME}` in a setting is replaced by the environment variable of that name.

So is `$NAME` where a path starts with it, and `${oc.env:NAME}` with its default, as in OmegaConf.

`${free_port:NAME}` is replaced by a port of this machine on which no process listens when the file
is read. The same name stands for the same port everywhere in the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from ajet.config.loading.yaml_file import KeyPath, Settings, dotted
from ajet.service.probes import free_ports

VARIABLE = re.compile(r"\$\{([^{}]*)\}|\A\$([A-Z_][A-Z0-9_]*)(?=/)")
OMEGACONF = re.compile(r"oc\.env:\s*([A-Za-z_]\w*)\s*(?:,\s*(.*))?")
FREE_PORT = re.compile(r"\$\{free_port:([\w-]+)\}")
OTHER_LANGUAGE = ("verl", "trinity")
"""Sections that are handed on as they are: these libraries give `${...}` a meaning of their own."""


def replace_variables(settings: Settings) -> list[str]:
    """Replace the variables in every text under `ajet:`, in place; free ports everywhere.

    Returns:
        One line for each that is not set.
    """
    problems: list[str] = []
    _replace_free_ports(settings.data)
    ajet = settings.data["ajet"]
    change = partial(_with_variables, settings, problems)
    for name in ajet:
        if name not in OTHER_LANGUAGE:
            ajet[name] = _with_texts(ajet[name], ("ajet", name), change)
    return problems


def _with_texts(value: Any, path: KeyPath, change: Callable[[str, KeyPath], Any]) -> Any:
    """The value with `change(text, path)` in the place of each text in it."""
    if isinstance(value, dict):
        return {key: _with_texts(v, (*path, str(key)), change) for key, v in value.items()}
    if isinstance(value, list):
        return [_with_texts(v, (*path, i), change) for i, v in enumerate(value)]
    return change(value, path) if isinstance(value, str) else value


def _replace_free_ports(data: dict[str, Any]) -> None:
    names = sorted(set(FREE_PORT.findall(repr(data))))
    # All at once, so that two names never get one port.
    ports = dict(zip(names, free_ports(len(names)), strict=True))

    def change(value: str, _: KeyPath) -> str | int:
        text = FREE_PORT.sub(lambda match: str(ports[match.group(1)]), value)
        # `ready_port: ${free_port:NAME}` is a number, not a text.
        return int(text) if FREE_PORT.fullmatch(value) else text

    if names:
        data.update(_with_texts(data, (), change))


def _with_variables(settings: Settings, problems: list[str], value: str, path: KeyPath) -> str:
    place = f"{settings.place(path)}: {dotted(path)}"

    def variable(match: re.Match[str]) -> str:
        name, default = match.group(2) or match.group(1), None
        if omegaconf := OMEGACONF.fullmatch(name):
            name, default = omegaconf.groups()
        found = os.environ.get(name, default)
        if found is None:
            problems.append(f"{place}: {_not_replaced(match.group(), name)}")
        return found or ""

    return VARIABLE.sub(variable, value)


def _not_replaced(given: str, name: str) -> str:
    if re.fullmatch(r"[A-Za-z_]\w*", name):
        return f"{given} is replaced by the environment variable {name}, which is not set"
    return (
        f"{given} cannot be replaced: only environment variables are, as in ${{HOME}}; write the "
        "value itself"
    )
