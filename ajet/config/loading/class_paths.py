"""Settings that name a class: a registered name, or the class path of a user's own class."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from ajet.class_path import ARROW, CUT_BY_SHELL, split_class_path
from ajet.config.loading.paths import find_path
from ajet.config.messages import unavailable_error, value_error
from ajet.config.sections.section import free
from ajet.config.sections.types import Words
from ajet.errors import did_you_mean

CLASS_PATH = Words('"path/to/file.py->Class" or "package.module->Class"')


def _class_path(value: str, info: ValidationInfo) -> str:
    parts = split_class_path(value)
    if parts is None:
        hint = f"; {CUT_BY_SHELL}" if value.endswith("-") else ""
        raise value_error(f'got "{value}", expected {CLASS_PATH.text}{hint}')
    module, name = parts
    if module.endswith(".py"):
        module = find_path(module, info, Path.is_file)
    elif info.context:
        _import_from_folder_of(module, info.context["folders"])
    return f"{module}->{name}"


def _import_from_folder_of(module: str, folders: list[Path]) -> None:
    """Make importable a module that lies beside the YAML file and not in the current directory.

    At the end of the search path, so that no installed library is hidden.
    """
    parts = module.split(".")
    for folder in folders:
        file = folder.joinpath(*parts)
        if file.with_suffix(".py").is_file() or file.is_dir():
            if str(folder) not in sys.path:
                sys.path.append(str(folder))
            return


ClassPath = Annotated[str, CLASS_PATH, AfterValidator(_class_path)]


@dataclass(frozen=True, eq=False)
class Registered:
    """Marks a text setting that takes a name in a registry, or a class path.

    The registry maps each name to a class path. The class is imported only when a run needs it,
    so that a configuration error never waits for a library.
    """

    registry: Mapping[str, str | None]
    later: tuple[str, ...] = ()
    """Documented names that this version does not have yet; the error message says so."""

    @property
    def text(self) -> str:
        """What the setting takes, in words."""
        names = _quoted(self.registry)
        names = f"one of {names}" if len(self.registry) > 1 else names
        later = f" (in a later version: {_quoted(self.later)})" if self.later else ""
        return f"{names}{later}, or {CLASS_PATH.text}"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def _check(self, value: str, info: ValidationInfo) -> str:
        if ARROW in value or ".py:" in value or value.endswith(".py-"):
            return _class_path(value, info)
        if value in self.registry:
            return value
        if value in self.later:
            if info.context and info.context["accept_missing"]:
                return value
            names = _quoted(self.registry)
            raise unavailable_error(f'"{value}" is not part of this version; available: {names}')
        hint = did_you_mean(value, [*self.registry, *self.later])
        raise value_error(f'got "{value}", expected {self.text}{hint}')


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def free_beside(*keys: str) -> AfterValidator:
    """Checks the extra keys of a section in which one of `keys` may name a user's own class.

    Beside a class path, every key is a setting of that class. Beside a registered name, a key
    that is not a field is a typing mistake and is refused like any unknown key.
    """

    def check(value: Any, info: ValidationInfo) -> Any:
        # A key whose own check failed is absent here; the settings beside it may then be right.
        if any(ARROW in str(info.data.get(key, ARROW)) for key in keys):
            return free(value)
        raise value_error("unknown key")

    return AfterValidator(check)
