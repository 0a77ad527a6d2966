"""Types of values that several sections use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from ajet.config.messages import value_error
from ajet.schema.episode import MIN_TEMPERATURE

Count = Annotated[int, Gt(0)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]


def _zero_or_computable(value: float) -> float:
    if 0 < value < MIN_TEMPERATURE:
        raise value_error(f"expected 0 (greedy), or {MIN_TEMPERATURE} or more")
    return value


Temperature = Annotated[float, Ge(0), AfterValidator(_zero_or_computable)]


def _minus_one_is_none(value: object) -> object:
    return None if value == -1 else value


EverySteps = Annotated[Count | None, BeforeValidator(_minus_one_is_none)]
"""An interval in steps; null or -1: never."""


@dataclass(frozen=True)
class Words:
    """Describes in words what a text must be, for error messages and the reference page."""

    text: str


@dataclass(frozen=True)
class Available:
    """The documented names that this version supports; the others are refused by name."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        check: Callable[[Any], Any] = self._check
        return core_schema.no_info_after_validator_function(check, handler(source))

    def _check(self, value: str) -> str:
        if value in self.names:
            return value
        names = ", ".join(f'"{name}"' for name in self.names)
        raise value_error(f'"{value}" is not part of this version; available: {names}')
