"""Files written for AgentJet: their keys, their special words, their defaults.

See `agentjet_keys` for the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ajet.config.loading.agentjet_keys import (
    DOCUMENTED_DEFAULTS,
    KEYS,
    MARK,
    OTHER_SECTIONS,
    SINKS,
    VALUES,
    Divides,
    ForVerl,
    NoEffect,
    OnlyValues,
    Renamed,
    Rule,
)
from ajet.config.loading.overrides import set_key
from ajet.config.loading.yaml_file import Settings, dotted
from ajet.config.sections.trainer_common import METRIC_SINKS
from ajet.errors import did_you_mean

_MISSING = object()

CHOOSERS = {"task_reader": "type", "task_judge": "judge_type"}
"""Sections with a section for each kind -> the key that chooses one."""


def translate(
    settings: Settings, yaml_path: Path, *, takes_documented: bool = False
) -> tuple[list[str], list[str]]:
    """Replace AgentJet's keys and words by ours, in place.

    Args:
        settings: of the file and the command line. The backbone is decided already.
        yaml_path: its name is what `experiment_name: read_yaml_name` means.
        takes_documented: keys left out have AgentJet's documented defaults.

    Returns:
        Problems, one line each, and notices, one line each.
    """
    problems: list[str] = []
    notices: list[str] = []
    defaults = DOCUMENTED_DEFAULTS if takes_documented else {}
    _special_words(settings.data["ajet"], yaml_path)
    for key, rule in KEYS.items():
        path = _path(key)
        value = _get(settings.data, path)
        if value is _MISSING:
            continue
        try:
            notice = _apply(settings, path, value, rule, defaults)
        except ValueError as error:
            problems.append(f"{settings.place(path)}: {dotted(path)}: {error}")
            if not isinstance(rule, Renamed) or rule.to != key:
                _remove(settings.data, path)  # one line per problem: not an unknown key as well
        else:
            if notice:
                notices.append(f"{settings.place(path)}: {dotted(path)} {notice}")
    problems += _close_other_sections(settings)
    if sink := _metric_service(settings):
        notices.append(sink)
    for key, names in VALUES.items():
        value = _get(settings.data, _path(key))
        if isinstance(value, str) and value in names:
            set_key(settings, _path(key), names[value], settings.place(_path(key)))
    return problems, notices


def use_documented_defaults(settings: Settings, place: str) -> None:
    """Set AgentJet's default for every key that the file leaves out."""
    for key, value in _documented(settings.data):
        path = _path(key)
        if _get(settings.data, path) is _MISSING and not _is_blocked(settings.data, path):
            set_key(settings, path, value, place)


def _documented(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """AgentJet's defaults; those of one reader or judge only where the file chooses it."""
    for key, value in DOCUMENTED_DEFAULTS.items():
        section, *below = key.split(".")
        chooser = CHOOSERS.get(section)
        if chooser and len(below) > 1:
            chosen = _get(data, _path(f"{section}.{chooser}"))
            if chosen is _MISSING:
                chosen = DOCUMENTED_DEFAULTS.get(f"{section}.{chooser}")
            if chosen != below[0]:
                continue
        yield key, value


def differing_defaults(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys that the file leaves out and whose default differs, with AgentJet's default."""
    for key, value in _documented(data):
        if _get(data, _path(key)) is _MISSING:
            yield f"ajet.{key}", value


def is_marked(data: dict[str, Any]) -> bool:
    """Whether the top-level `defaults:` of a file names AgentJet's defaults."""
    given = data.get("defaults")
    return MARK in given if isinstance(given, list) else given == MARK


def looks_like_agentjet(data: dict[str, Any]) -> bool:
    """Whether a file has keys or words that only AgentJet has, and not its mark."""
    if is_marked(data):
        return False
    ajet = data.get("ajet")
    words = isinstance(ajet, dict) and ajet.get("experiment_name") == "read_yaml_name"
    own = [key for key, rule in KEYS.items() if not (isinstance(rule, Renamed) and rule.to == key)]
    return words or "hydra" in data or any(_get(data, _path(key)) is not _MISSING for key in own)


def _close_other_sections(settings: Settings) -> list[str]:
    """Remove sections that only AgentJet has; a line for each thing in them that has no rule."""
    problems = []
    for section in OTHER_SECTIONS:
        path = _path(section)
        left = _get(settings.data, path)
        if left is _MISSING:
            continue
        known = [key.removeprefix(f"{section}.") for key in KEYS if key.startswith(f"{section}.")]
        if isinstance(left, dict):
            for name in left:
                below = (*path, str(name))
                hint = did_you_mean(str(name), known) or f"; known here: {', '.join(known)}"
                problems.append(f"{settings.place(below)}: {dotted(below)}: unknown key{hint}")
        elif left is not None:
            problems.append(f"{settings.place(path)}: {dotted(path)}: expected a section")
        _remove(settings.data, path)
    return problems


def _special_words(ajet: dict[str, Any], yaml_path: Path) -> None:
    if ajet.get("experiment_name") == "read_yaml_name":
        ajet["experiment_name"] = yaml_path.stem
    if ajet.get("experiment_dir") == "auto":
        del ajet["experiment_dir"]


def _metric_service(settings: Settings) -> str:
    """Replace a metric service that has no sink here; the notice of it, or nothing."""
    path = _path("trainer_common.logger")
    given = _get(settings.data, path)
    names = given if isinstance(given, list) else [given]
    missing = [name for name in SINKS if name in names and name not in METRIC_SINKS]
    if not missing:
        return ""
    place = settings.place(path)
    kept = [name for name in names if name not in missing]
    set_key(settings, path, [*kept, *({"tensorboard"} - set(kept))], place)
    return f"{place}: {dotted(path)}: metrics go to TensorBoard instead of {' and '.join(missing)}"


def _apply(
    settings: Settings,
    path: tuple[str, ...],
    value: Any,
    rule: Rule,
    defaults: Mapping[str, Any],
) -> str:
    """Carry out one rule; the notice of it, or nothing.

    Raises:
        ValueError: the value cannot be honoured; the message says what to use.
    """
    backbone = settings.data["ajet"].get("backbone")
    if isinstance(rule, Renamed):
        _rename(settings, path, value, rule)
        return ""
    if isinstance(rule, NoEffect):
        _remove(settings.data, path)
        return "" if value in rule.quiet else f"has no effect: {rule.why}"
    if isinstance(rule, OnlyValues):
        if value not in rule.values:
            raise ValueError(f"got {value!r}, expected {rule.values[0]!r}; use {rule.instead}")
        _remove(settings.data, path)
        return ""
    if isinstance(rule, Divides):
        return _divide(settings, path, value, rule, defaults)
    return _give_to_verl(settings, path, value, rule, backbone)


def _rename(settings: Settings, path: tuple[str, ...], value: Any, rule: Renamed) -> None:
    converted = _converted(settings, path, value, rule)
    place, to = settings.place(path), _path(rule.to)
    if to == path:
        set_key(settings, to, converted, place)
        return
    if value in rule.drop:
        _remove(settings.data, path)
        return
    other = _get(settings.data, to)
    if other is not _MISSING and other is not None and converted not in (None, other):
        raise ValueError(f"also given as {dotted(to)}, at {settings.place(to)}; remove one")
    if _is_blocked(settings.data, to):
        raise ValueError(f"is {dotted(to)} here, and the file has a value in place of that section")
    _remove(settings.data, path)
    if other is _MISSING or other is None:
        set_key(settings, to, converted, place)
        settings.given_as[to] = path


def _converted(settings: Settings, path: tuple[str, ...], value: Any, rule: Renamed) -> Any:
    try:
        if rule.in_section:
            return rule.in_section(value, _get(settings.data, path[:-1]))
        return rule.convert(value) if rule.convert else value
    except TypeError:
        return value  # the check of types says what is expected


def _is_blocked(data: dict[str, Any], path: tuple[str, ...]) -> bool:
    """Whether a value stands where the key needs a section, so that the key cannot be set."""
    above = (_get(data, path[:end]) for end in range(1, len(path)))
    return any(value is not _MISSING and not isinstance(value, dict | None) for value in above)


def _divide(
    settings: Settings,
    path: tuple[str, ...],
    factor: Any,
    rule: Divides,
    defaults: Mapping[str, Any],
) -> str:
    if factor is not None and (not isinstance(factor, int | float) or factor <= 0):
        raise ValueError(f"got {factor!r}, expected a number above 0")
    _remove(settings.data, path)
    if factor in (None, 1):
        return ""
    to = _path(rule.to)
    value = _get(settings.data, to)
    if value is _MISSING:
        value = defaults.get(rule.to, rule.default)
    if not isinstance(value, int | float):
        return ""  # the check of types says what is expected
    set_key(settings, to, value / factor, settings.place(path))
    return (
        f"is taken as {dotted(to)}: {value / factor:g}, which is {value:g} / {factor:g}: {rule.why}"
    )


def _give_to_verl(
    settings: Settings, path: tuple[str, ...], value: Any, rule: ForVerl, backbone: object
) -> str:
    neutral = (*rule.neutral, None)
    if backbone != "verl" and value not in neutral and not rule.elsewhere:
        expected = " or ".join(map(repr, rule.neutral))
        raise ValueError(f"got {value!r}, expected {expected}, or the backbone verl")
    _remove(settings.data, path)
    if value is None:
        return ""
    if backbone == "verl":
        to = _path(f"verl.{rule.to}")
        if _get(settings.data, to) is _MISSING:
            set_key(settings, to, value, settings.place(path))
        return ""
    return "" if value in rule.neutral else f"has no effect: {rule.elsewhere}"


def _path(key: str) -> tuple[str, ...]:
    return ("ajet", *key.split("."))


def _get(data: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(data, dict) or key not in data:
            return _MISSING
        data = data[key]
    return data


def _remove(data: dict[str, Any], path: tuple[str, ...]) -> None:
    """Remove a key, and the sections above it that are empty without it."""
    sections = [data]
    for key in path[:-1]:
        sections.append(sections[-1][key])
    del sections[-1][path[-1]]
    for section, key in reversed(list(zip(sections[:-1], path[:-1], strict=True))):
        if section[key] or key == "ajet":
            break
        del section[key]
