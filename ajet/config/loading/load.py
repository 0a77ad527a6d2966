"""From a YAML file and overrides to the resolved configuration, or to one complete complaint."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ajet.config.backbones import default_backbone
from ajet.config.loading.agentjet import is_marked, translate, use_documented_defaults
from ajet.config.loading.agentjet_keys import MARK, VERL_SECTIONS
from ajet.config.loading.overrides import apply_overrides, key_path, typed_values
from ajet.config.loading.paths import LookIn
from ajet.config.loading.problems import name_with_dots, problems_of
from ajet.config.loading.variables import replace_variables
from ajet.config.loading.yaml_file import KeyPath, Settings, parse_yaml
from ajet.config.messages import UNAVAILABLE, config_error
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.config.sections.section import FreeConfig
from ajet.config.sections.task_reader import DEFAULT_READER, TASK_READERS
from ajet.errors import ConfigError, did_you_mean

FREE_SECTIONS = tuple(
    name for name, field in AjetConfig.model_fields.items() if field.annotation is FreeConfig
)
"""Sections that may also stand beside `ajet:`, at the top level of the file."""
READER_SECTIONS = set(TASK_READERS)

logger = logging.getLogger(__name__)


def load_config(
    path: str | Path, overrides: Iterable[str] = (), *, from_agentjet: bool = False
) -> RootConfig:
    """Read a YAML file, put the overrides on top and check all of it.

    Args:
        path: the YAML file.
        overrides: `key.path=value`, later ones win.
        from_agentjet: keys left out have AgentJet's documented defaults.

    Raises:
        ConfigError: with a line for every problem.
    """
    return resolve(read_settings(path), Path(path), overrides, from_agentjet=from_agentjet)


def read_settings(path: str | Path) -> Settings:
    """What a YAML file says, not checked yet.

    Raises:
        ConfigError: the file cannot be read or is not YAML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}{_file_meant(Path(path))}") from None
    return parse_yaml(text, str(path))


def _file_meant(path: Path) -> str:
    """The end of an error message about a YAML file that is not there: one with a similar name."""
    if path.exists() or not path.parent.is_dir():
        return ""
    others = [each.name for each in path.parent.glob("*.y*ml")]
    if path.suffix:
        return did_you_mean(path.name, others)
    return did_you_mean(f"{path.name}.yaml", others)


def resolve(
    settings: Settings,
    yaml_path: Path,
    overrides: Iterable[str] = (),
    *,
    from_agentjet: bool = False,
) -> RootConfig:
    """Check plain data and fill in the rest.

    Args:
        settings: what a file says; changed in place.
        yaml_path: names the experiment where it has no name; relative paths are looked for in its
            folder, then in the current one.
        overrides: `key.path=value`, later ones win.
        from_agentjet: keys left out have AgentJet's documented defaults.

    Raises:
        ConfigError: with a line for every problem.
    """
    problems = _prepare(settings, yaml_path, overrides, from_agentjet=from_agentjet)
    settings.data["ajet"].setdefault("experiment_name", yaml_path.stem)
    problems += replace_variables(settings)
    config, wrong = _validate(settings, [yaml_path.resolve().parent, Path.cwd()])
    if problems or config is None:
        raise config_error([*problems, *wrong])
    return config


def as_our_yaml(path: str | Path, overrides: Iterable[str] = ()) -> str:
    """A file of AgentJet under our names, with AgentJet's documented defaults written out.

    Raises:
        ConfigError: with a line for every problem.
    """
    settings = read_settings(path)
    section = settings.data.get("ajet")
    names_backbone = isinstance(section, dict) and "backbone" in section
    problems = _prepare(settings, Path(path), overrides, from_agentjet=True)
    if problems:
        raise config_error(problems)
    if not names_backbone:  # which backbone is the default depends on the machine
        del settings.data["ajet"]["backbone"]
    return yaml.safe_dump(settings.data, sort_keys=False, allow_unicode=True)


def _prepare(
    settings: Settings, yaml_path: Path, overrides: Iterable[str], *, from_agentjet: bool
) -> list[str]:
    """Put overrides and translations into the settings; return a line for every problem.

    Raises:
        ConfigError: there is no section `ajet:`.
    """
    data = settings.data
    takes_documented = _takes_documented_defaults(settings) or from_agentjet
    problems = _arrange(settings)
    if not isinstance(data.get("ajet"), dict):
        raise config_error(problems)
    problems += apply_overrides(settings, overrides)
    data["ajet"].setdefault("backbone", default_backbone())
    refused, notices = translate(settings, yaml_path, takes_documented=takes_documented)
    for notice in notices:
        logger.warning("%s", notice)
    if takes_documented:
        use_documented_defaults(settings, f"defaults: [{MARK}]")
    return [*problems, *refused]


def require_available(config: RootConfig) -> None:
    """Refuse a run of a configuration that names files or parts which are not there.

    Raises:
        ConfigError: with a line for each of them.
    """
    if config.unavailable:
        raise config_error(config.unavailable)


def _validate(settings: Settings, folders: list[Path]) -> tuple[RootConfig | None, list[str]]:
    """The configuration, or None and a line for every problem.

    What is only unavailable is not a problem here, so that a file can be read, checked and
    translated on a machine without its data.
    """
    data = settings.data
    try:
        context = LookIn(folders=folders, typed=typed_values(settings), accept_missing=False)
        return RootConfig.model_validate(data, context=context), []
    except ValidationError as error:
        lines = problems_of(error, settings)
        for path in [path for path in lines if _is_unused(path, data)]:
            del lines[path]
        if {detail["type"] for detail in error.errors()} != {UNAVAILABLE}:
            return None, list(lines.values())
    context["accept_missing"] = True
    try:
        config = RootConfig.model_validate(data, context=context)
    except ValidationError as error:  # from rules about several keys, which come after the others
        return None, [*lines.values(), *problems_of(error, settings).values()]
    config._unavailable = tuple(lines.values())
    return config, []


def _is_unused(path: KeyPath, data: dict[str, Any]) -> bool:
    """Whether the key is in the section of a task reader that is not the chosen one."""
    if path[:2] != ("ajet", "task_reader"):
        return False
    below = path[2:]
    if len(below) < 2 or below[0] not in READER_SECTIONS:
        return False
    section = data["ajet"]["task_reader"]
    if below[0] != section.get("type", DEFAULT_READER):
        return True
    if below[:2] != ("mixture", "sources") or len(below) < 5 or below[3] not in READER_SECTIONS:
        return False
    source = section["mixture"]["sources"][below[2]]
    return bool(below[3] != source.get("type", DEFAULT_READER))


def to_yaml(config: RootConfig) -> str:
    """The resolved configuration as a YAML file that loads to the same configuration."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)


def _takes_documented_defaults(settings: Settings) -> bool:
    """Remove what Hydra reads in a file of AgentJet; whether the file has the mark of one."""
    data = settings.data
    takes_documented = is_marked(data)
    if given := [name for name in ("hydra", "defaults") if data.pop(name, None) is not None]:
        names = " and ".join(f"`{name}:`" for name in given)
        text = f"{names} ignored; Hydra is not used here"
        if takes_documented:
            text += f", but with {MARK}, keys left out have the defaults of modelscope/AgentJet"
        logger.warning("%s: %s", settings.source, text)
    return takes_documented


def _move_places(settings: Settings, old: KeyPath, new: KeyPath) -> None:
    for path in [path for path in settings.places if path[: len(old)] == old]:
        settings.places[(*new, *path[len(old) :])] = settings.places.pop(path)


def _arrange(settings: Settings) -> list[str]:
    """Sort out what stands at the top level; return a line for each thing that is wrong there."""
    data = settings.data
    problems = []
    ajet = data.setdefault("ajet", None)
    if not isinstance(ajet, dict):
        others = [str(key) for key in data if key != "ajet"]
        hint = did_you_mean("ajet", others) or (f"; there is `{others[0]}:`" if others else "")
        problems.append(f"{settings.place(('ajet',))}: expected a section `ajet:`{hint}")
    for name in FREE_SECTIONS:
        if name in data and isinstance(ajet, dict):
            if name in ajet:
                problems.append(f"{settings.place((name,))}: {name}: also given as ajet.{name}")
            ajet[name] = data.pop(name)
            _move_places(settings, (name,), ("ajet", name))
    for name in list(data):
        place = settings.place((str(name),))
        if name in AjetConfig.model_fields and name not in FREE_SECTIONS:
            where = "`ajet:`" + (" or `verl:`" if name in VERL_SECTIONS else "")
            problems.append(f"{place}: {name}: indent it under {where}, where it belongs")
        elif not isinstance(name, str) or hasattr(RootConfig, name):
            problems.append(f"{place}: {name}: a section of yours needs another name")
            del data[name]
        elif "." in name and name.partition(".")[0] in ("ajet", *AjetConfig.model_fields):
            problems.append(f"{place}: {name}: {name_with_dots(key_path(name))}")
        elif name in VERL_SECTIONS:
            logger.warning(
                "%s: %s: read as a section of your own; settings of verl belong below `verl:`",
                place,
                name,
            )
    return problems
