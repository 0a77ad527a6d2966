"""Checks a request's parameters: each is honoured, has no effect here, or is refused by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from ajet.errors import RequestError

_LONGEST_SHOWN = 200
"""Characters of a wrong value that an error message shows at most."""

Model = TypeVar("Model", bound=BaseModel)


class Parameters(BaseModel):
    """Parameters within a parameter: unknown ones are refused, null is the same as absent."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, given: Any) -> Any:
        return without_nulls(given)


def without_nulls(value: Any) -> Any:
    """A JSON value without object entries that are null, which clients send for absent ones."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


def read_parameters(
    body: Any,
    model: type[Model],
    *,
    without_effect: Collection[str],
    neutral: Mapping[str, tuple[Any, ...]],
) -> Model:
    """Check a request's body and return its parameters; null is the same as absent.

    Args:
        body: the parsed JSON.
        model: its fields are the parameters that are honoured.
        without_effect: parameters that are accepted and do not change the answer.
        neutral: parameters that cannot be honoured, with the values that ask for nothing special
            and are accepted.

    Raises:
        RequestError: names the parameter that is wrong or cannot be honoured.
    """
    if not isinstance(body, dict):
        raise RequestError(f"body: got {type(body).__name__}; expected a JSON object")
    kept = {
        name: value
        for name, value in body.items()
        if value is not None and name not in without_effect
    }
    for name in neutral.keys() & kept.keys():
        if without_nulls(kept.pop(name)) not in neutral[name]:
            raise unsupported(name, body[name])
    try:
        return model.model_validate(kept)
    except ValidationError as error:
        raise _request_error(body, error.errors(include_url=False)[0]) from error


def unsupported(param: str, value: Any, why: str = "leave it out") -> RequestError:
    """The error for a value that cannot be honoured."""
    return RequestError(
        f"{param}: {_shown(value)} is not supported by this engine; {why}",
        param=param,
        code="unsupported_parameter",
    )


def invalid(param: str, value: Any, expected: str) -> RequestError:
    """The error for a value that is wrong."""
    return RequestError(
        f"{param}: got {_shown(value)}; expected {expected}", param=param, code="invalid_value"
    )


def _request_error(body: dict[str, Any], problem: ErrorDetails) -> RequestError:
    param = _place(body, problem["loc"])
    if problem["type"] == "extra_forbidden":
        return RequestError(
            f"{param}: this parameter is not supported; leave it out",
            param=param,
            code="unknown_parameter",
        )
    return RequestError(
        f"{param}: got {_shown(problem['input'])}; {problem['msg']}",
        param=param,
        code="invalid_value",
    )


def _place(body: Any, loc: tuple[int | str, ...]) -> str:
    """The path to a value, without the type names that pydantic adds for unions."""
    path = [loc[0]]
    for part in loc[1:]:
        try:
            body = body[path[-1]]
            body[part]
        except (LookupError, TypeError):
            break
        path.append(part)
    return ".".join(map(str, path))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
