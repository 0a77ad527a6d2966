"""The base of every YAML section."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class BaseConfig(BaseModel):
    """A section under `ajet:`. Unknown keys are refused; nothing changes after loading."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_in_yaml(cls, value: Any) -> Any:
        return {} if value is None else value
