"""Base classes of YAML sections: with a schema, and free ones without."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import CoreSchema, core_schema

from ajet.errors import did_you_mean


class KeyAccess(BaseModel):
    """Lets code read a setting like the key of a mapping, too: `config["game"]`, `config.get()`."""

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            known = [*type(self).model_fields, *(self.model_extra or {})]
            raise KeyError(f'there is no key "{name}"{did_you_mean(name, known)}')
        return getattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in type(self).model_fields or name in (self.model_extra or {})

    def get(self, name: str, default: Any = None) -> Any:
        """The setting of that name, or the default where there is none."""
        return getattr(self, name) if name in self else default


class BaseConfig(KeyAccess):
    """A section under `ajet:`. Unknown keys are refused; instances are frozen."""

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


class FreeConfig(dict[str, Any]):
    """A mapping whose keys can be read as attributes: `config.frozen_lake.is_slippery`.

    A key with the name of a dict method (`items`, `get`, ...) is read as `section["items"]`.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            hint = did_you_mean(name, self)
            raise AttributeError(f'this section has no key "{name}"{hint}') from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        is_mapping = core_schema.is_instance_schema(cls)
        return core_schema.no_info_before_validator_function(_free_or_empty, is_mapping)


def free(value: Any) -> Any:
    """The value with every nested mapping as a `FreeConfig`."""
    if isinstance(value, dict):
        return FreeConfig({key: free(item) for key, item in value.items()})
    if isinstance(value, list):
        return [free(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """The inverse of `free`, for libraries that accept only plain dicts."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _free_or_empty(value: Any) -> Any:
    return FreeConfig() if value is None else free(value)
