"""What pydantic refused, in one line for each key: where, what was got, what was expected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from ajet.config.loading.agentjet_keys import KEYS, NAMES_ELSEWHERE
from ajet.config.loading.describe import choices, expected, is_list, subsection
from ajet.config.loading.yaml_file import KeyPath, Settings, dotted
from ajet.config.messages import COMPLETE, UNAVAILABLE
from ajet.config.sections.root import AjetConfig
from ajet.config.sections.section import BaseConfig
from ajet.errors import did_you_mean


def problems_of(error: ValidationError, settings: Settings) -> dict[KeyPath, str]:
    """One line for each key that is wrong."""
    lines: dict[KeyPath, str] = {}
    for detail in error.errors(include_url=False):
        path, section, field = _locate(detail["loc"])
        if field is None:
            text = unknown_key(path, section)
        elif detail["type"] == "missing" and path == detail["loc"]:
            text = f"missing; expected {expected(field)}"
        elif detail["type"] in (COMPLETE, UNAVAILABLE):
            text = detail["msg"]
        else:
            text = _bad_value(_look_up(settings.data, path), field)
        # Where a value fits no branch of a union, our own message says more than pydantic's.
        if path not in lines or detail["type"] in (COMPLETE, UNAVAILABLE):
            lines[path] = f"{settings.place(path)}: {dotted(_as_given(path, settings))}: {text}"
    return lines


def _as_given(path: KeyPath, settings: Settings) -> KeyPath:
    """The name in the file of a key that AgentJet calls otherwise."""
    for end in range(len(path), 0, -1):
        if given := settings.given_as.get(path[:end]):
            return (*given, *path[end:])
    return path


def unknown_key(path: KeyPath, section: type[BaseConfig]) -> str:
    """Such as `unknown key; did you mean "temperature"?`."""
    name = str(path[-1])
    if meant := NAMES_ELSEWHERE.get(dotted(path[1:])):
        return f"unknown key; use {meant}"
    if "." in name:
        return name_with_dots((*map(str, path[:-1]), *name.split(".")))
    hint = did_you_mean(name, [*section.model_fields, *_keys_of_agentjet(path[:-1])])
    elsewhere = [path for path in all_keys(AjetConfig, "ajet") if path.endswith(f".{name}")]
    if elsewhere:
        hint += f"; there is {' and '.join(elsewhere)}"
    text = hint or f"; known here: {', '.join(section.model_fields) or 'none'}"
    if section is AjetConfig:
        text += "; a key of your own belongs beside `ajet:`, as config.NAME for your code"
    return f"unknown key{text}"


def name_with_dots(parts: tuple[str, ...]) -> str:
    """What to write for a name such as `rollout.temperature` in a file."""
    *sections, last = parts
    above = ", ".join(f"`{section}:`" for section in sections)
    return f"a name with dots is no path in a file; write `{last}:` below {above}"


def _keys_of_agentjet(section: KeyPath) -> Iterator[str]:
    """Names that AgentJet's files may have in the section, beside ours."""
    for key in KEYS:
        *parents, name = f"ajet.{key}".split(".")
        if tuple(parents) == section:
            yield name


def all_keys(section: type[BaseConfig], prefix: str) -> Iterator[str]:
    """The dotted path of every key in the section and below."""
    for name, field in section.model_fields.items():
        yield f"{prefix}.{name}"
        if below := subsection(field):
            yield from all_keys(below, f"{prefix}.{name}" + ("[]" if is_list(field) else ""))


def _locate(loc: KeyPath) -> tuple[KeyPath, type[BaseConfig], FieldInfo | None]:
    """The part of pydantic's location that is in the YAML, its section, and the field if known.

    Beyond a field that is no section, pydantic continues with indices and names of union branches.
    """
    section: type[BaseConfig] = AjetConfig
    for end in range(2, len(loc)):
        if isinstance(loc[end - 1], int):
            continue  # which entry of a list of sections
        field = section.model_fields.get(str(loc[end - 1]))
        below = subsection(field) if field else None
        if below is None:
            return loc[:end], section, field
        section = below
    if isinstance(loc[-1], int):
        return loc, section, FieldInfo.from_annotation(section)
    return loc, section, section.model_fields.get(str(loc[-1]))


def _look_up(data: dict[str, Any], path: KeyPath) -> Any:
    value: Any = data
    for key in path:
        value = value[key]
    return value


def _bad_value(value: Any, field: FieldInfo) -> str:
    names = choices(field.annotation)
    hint = did_you_mean(value, names) if isinstance(value, str) and value not in names else ""
    return f"got {_shown(value)}, expected {expected(field)}{hint}"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
