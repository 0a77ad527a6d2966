"""Describes in words what a setting accepts, for error messages and the reference page."""

from __future__ import annotations

from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from ajet.config.loading.class_paths import Registered
from ajet.config.sections.section import BaseConfig, FreeConfig
from ajet.config.sections.types import Available, Words

WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a text",
    FreeConfig: "a mapping",
}


def subsection(field: FieldInfo) -> type[BaseConfig] | None:
    """The class of the section, or None if the field is not a section or a list of sections."""
    kind = get_args(field.annotation)[0] if is_list(field) else field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseConfig) else None


def is_list(field: FieldInfo) -> bool:
    """Whether the field accepts only a list."""
    return get_origin(field.annotation) is list


def choices(annotation: Any) -> list[str]:
    """All names that a field with fixed names accepts."""
    if get_origin(annotation) is Literal:
        return [str(name) for name in get_args(annotation)]
    return [name for part in get_args(annotation) for name in choices(part)]


def expected(field: FieldInfo) -> str:
    """The accepted values in words, such as `an integer above 0, or null`."""
    if section := subsection(field):
        required = [name for name, key in section.model_fields.items() if key.is_required()]
        kind = "a list, each entry a section" if is_list(field) else "a section"
        return f"{kind} with {', '.join(required)}" if required else kind
    return _words(field.annotation, field.metadata)


def _words(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(args[0], [*metadata, *args[1:]])
    if origin is Literal:
        return _names(args, next((mark for mark in metadata if isinstance(mark, Available)), None))
    if words := [mark.text for mark in metadata if isinstance(mark, Words | Registered)]:
        return words[-1]  # the outermost annotation says it most precisely
    if origin in (Union, UnionType):
        parts = [_words(part, metadata) for part in args if part is not NoneType]
        return ", or ".join([*parts, *(["null"] if NoneType in args else [])])
    if origin is dict:
        return f"a mapping, each value {_words(args[1])}"
    if origin is list:
        return f"a list, each entry {_words(args[0])}"
    if origin is tuple:
        return f"a list of {len(args)}, each {_words(args[0])}"
    return WORDS[annotation] + _bounds(metadata)


def _names(names: tuple[str, ...], available: Available | None) -> str:
    now = available.names if available else names
    later = [f'"{name}"' for name in names if name not in now]
    text = ", ".join(f'"{name}"' for name in now)
    text = f"one of {text}" if len(now) > 1 else text
    return f"{text} (in a later version: {', '.join(later)})" if later else text


def _bounds(metadata: Iterable[Any]) -> str:
    parts = []
    for mark in metadata:
        match mark:
            case Gt(gt=bound):
                parts.append(f"above {bound}")
            case Ge(ge=bound):
                parts.append(f"at least {bound}")
            case Lt(lt=bound):
                parts.append(f"below {bound}")
            case Le(le=bound):
                parts.append(f"at most {bound}")
    return f" {' and '.join(parts)}" if parts else ""
