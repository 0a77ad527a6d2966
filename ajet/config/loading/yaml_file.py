"""Parses YAML into plain data and records the line of each key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.error import MarkedYAMLError

from ajet.config.messages import config_error

KeyPath = tuple[str | int, ...]


MAX_DEPTH = 100
"""Levels of nesting. PyYAML reads a level in several nested calls; thousands of brackets would use
up the stack of Python, and whatever runs at its end, such as a finalizer, fails half done."""


class _Loader(yaml.SafeLoader):
    """PyYAML's YAML 1.1, except that `1e-6` is a number, as in YAML 1.2."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read what begins here, unless it stands too deep."""
        if self._depth == MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise MarkedYAMLError(problem=f"more than {MAX_DEPTH} levels", problem_mark=mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+\Z"),
    list("-+.0123456789"),
)


def _decimal(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    """An integer; `010` is 10, as in YAML 1.2, and not the octal number 8."""
    text = loader.construct_scalar(node)  # type: ignore[arg-type]
    if re.fullmatch(r"[-+]?0[0-9_]+", text):
        return int(text)
    return loader.construct_yaml_int(node)  # type: ignore[arg-type]


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)


_NOT_YAML = (yaml.YAMLError, ValueError)
"""The errors of invalid YAML; PyYAML raises ValueError for a date that does not exist."""


def _problem(error: Exception) -> str:
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return f"not valid YAML: {problem}"


@dataclass(slots=True, kw_only=True)
class Settings:
    """The data of a file and the command line, before names and types are checked."""

    data: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)
    """Key or list entry -> its place: `file.yaml:12`, or `command line`."""
    given_as: dict[KeyPath, KeyPath] = field(default_factory=dict)
    """A key of ours -> the name under which the file has it, where that is another one."""
    source: str
    """Name of the file, for problems that concern no single key."""

    def place(self, path: KeyPath) -> str:
        """The place of a key; for an absent key, the place of its section."""
        for length in range(len(path), 0, -1):
            if found := self.places.get(path[:length]):
                return found
        return self.source


def parse_value(text: str) -> Any:
    """Parse one YAML value, such as the right side of `rollout.num_repeat=4`.

    Raises:
        ValueError: the text is not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except _NOT_YAML as error:
        raise ValueError(_problem(error)) from None


def parse_yaml(text: str, source: str) -> Settings:
    """Parse the text of a YAML file.

    Args:
        text: the file's content.
        source: the file's name, for messages.

    Raises:
        ConfigError: the text is not YAML, empty, not a mapping, or has a duplicate key.
    """
    settings = Settings(data={}, source=source)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        problems = _walk(node, (), settings) if node else []
        data = loader.construct_document(node) if node else None
    except _NOT_YAML as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark else source
        raise config_error([f"{place}: {_problem(error)}"]) from None
    if not isinstance(data, dict):
        got = "an empty file" if data is None else f"a {type(data).__name__}"
        raise config_error([f"{source}: got {got}, expected a mapping that starts with `ajet:`"])
    if problems:
        raise config_error(problems)
    settings.data = data
    return settings


def _walk(
    node: yaml.Node, path: KeyPath, settings: Settings, above: tuple[yaml.Node, ...] = ()
) -> list[str]:
    """Record the lines of all keys below the node; return a problem for each duplicate key."""
    if node in above:
        return [f"{settings.place(path)}: {dotted(path)}: an alias that contains itself"]
    above = (*above, node)
    problems: list[str] = []
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            place = f"{settings.source}:{item.start_mark.line + 1}"
            settings.places.setdefault((*path, index), place)
            problems += _walk(item, (*path, index), settings, above)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        merged_last = sorted(node.value, key=lambda pair: pair[0].value == "<<")
        for key, value in merged_last:
            name, line = str(key.value), key.start_mark.line + 1
            below = path if name == "<<" else (*path, name)
            if name in seen:
                place = f"{settings.source}:{line}"
                problems.append(
                    f"{place}: {dotted(below)}: given twice; first on line {seen[name]}"
                )
            seen[name] = line
            settings.places.setdefault(below, f"{settings.source}:{line}")
            problems += _walk(value, below, settings, above)
    return problems


def dotted(path: KeyPath) -> str:
    """`ajet.rollout.num_repeat`, and `[2]` for the third entry of a list."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
