"""Settings that a backbone does not honour, so that none is ignored in silence."""

from __future__ import annotations

from typing import Any

from ajet.config.root import RootConfig

IGNORED = {
    "local": (
        "debug",
        "trainer_common.n_gpus_per_node",
        "trainer_common.nnodes",
        "trinity",
        "verl",
    ),
}
"""For each backbone, the settings under `ajet` that change nothing there."""


def ignored_settings(config: RootConfig, backbone: str) -> list[str]:
    """The settings that were given another value than the default and have no effect."""
    default = {
        name: field.get_default(call_default_factory=True)
        for name, field in type(config.ajet).model_fields.items()
    }
    return [
        f"ajet.{path}"
        for path in IGNORED[backbone]
        if _look_up(config.ajet, path) != _look_up(default, path)
    ]


def _look_up(section: Any, path: str) -> Any:
    for name in path.split("."):
        section = section[name] if isinstance(section, dict) else getattr(section, name)
    return section
