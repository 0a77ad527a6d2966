"""The backbones, each behind one function."""

from __future__ import annotations

from importlib import import_module

from ajet.algorithm.token_rewards import GAE
from ajet.config.sections.root import AjetConfig
from ajet.errors import ConfigError
from ajet.training.protocols import Run

BACKBONES = {
    "local": "ajet.backbone.local.entry:run",
    "debug": "ajet.backbone.debug.entry:run",
    "verl": "ajet.backbone.verl.entry:run",
    "trinity": "ajet.backbone.trinity.entry:run",
}
"""`ajet.backbone` -> `module:function`. A new backbone is one package and one entry here."""

REFUSALS = {
    "verl": "ajet.backbone.verl.refusals",
    "trinity": "ajet.backbone.trinity.refusals",
}
"""Modules with `refuse(ajet)`, which import no library of theirs."""


def backbone_entry(name: str) -> Run:
    """Import a backbone; what it needs is imported with it.

    Raises:
        MissingExtraError: a library that it needs is not installed.
    """
    module, _, function = BACKBONES[name].partition(":")
    run: Run = getattr(import_module(module), function)
    return run


def refuse_settings(ajet: AjetConfig) -> None:
    """Refuse what the backbone cannot honour, before anything is started.

    Raises:
        ConfigError: it names the setting and the cure.
    """
    if ajet.trainer_common.algorithm.adv_estimator == GAE and ajet.backbone != "verl":
        raise ConfigError(
            f"ajet.trainer_common.algorithm.adv_estimator: {GAE} needs a critic, which the "
            f"backbone {ajet.backbone} has not; use the backbone verl, or a baseline such as grpo"
        )
    if module := REFUSALS.get(ajet.backbone):
        import_module(module).refuse(ajet)
