"""From the registry of backbones to code: refusals, libraries, and the function that trains."""

from __future__ import annotations

import importlib.util
from importlib import import_module
from typing import Any, cast

from ajet.algorithm.credit import credit_rule
from ajet.class_path import load_function
from ajet.config.backbones import BACKBONES, FALLBACK, backbone_entry
from ajet.config.sections.root import AjetConfig
from ajet.engine.vllm.installed import require_vllm
from ajet.errors import ConfigError, MissingExtraError
from ajet.training.protocols import Run


def load_backbone(name: str) -> Run:
    """Import a backbone and return its `run` function.

    Raises:
        MissingExtraError: a library that the backbone needs is not installed.
        ConfigError: the class path of a user's backbone names no function.
    """
    check_libraries(name)
    entry = backbone_entry(name)
    if name not in BACKBONES:
        return cast(Run, load_function(entry.run, "ajet.backbone"))
    return cast(Run, imported(entry.run))


def check_libraries(name: str) -> None:
    """Check that the libraries of a backbone are installed, without importing them.

    Raises:
        MissingExtraError: one is missing; the message names the extra that installs it.
    """
    entry = backbone_entry(name)
    for library in entry.libraries:
        if importlib.util.find_spec(library) is None:
            assert entry.extra, f"the backbone {name} needs libraries but names no extra"
            instead = "" if name == FALLBACK else f"train with --backbone={FALLBACK}"
            raise MissingExtraError(library, entry.extra, instead=instead)


def check_engine(ajet: AjetConfig) -> None:
    """Check that vLLM and PEFT are installed where the local backbone would use them.

    Raises:
        ConfigError: vLLM is not; the message says how to install it.
        MissingExtraError: PEFT is not.
    """
    rollout = ajet.rollout
    starts_vllm = rollout.name == "vllm" and rollout.vllm.base_url is None
    if starts_vllm and ajet.backbone == FALLBACK:
        require_vllm(rollout.vllm.python)
    if ajet.lora.lora_rank and ajet.backbone == FALLBACK and not importlib.util.find_spec("peft"):
        raise MissingExtraError("peft", "lora", instead="train all weights with lora.lora_rank=0")


def refuse_settings(ajet: AjetConfig) -> None:
    """Refuse what the backbone cannot honour, before anything is started.

    Raises:
        ConfigError: the message names the setting and what to use instead.
    """
    entry = backbone_entry(ajet.backbone)
    estimator = ajet.trainer_common.algorithm.adv_estimator
    if not entry.has_critic and credit_rule(estimator).needs_critic:
        able = " or ".join(name for name, other in BACKBONES.items() if other.has_critic)
        raise ConfigError(
            f"ajet.trainer_common.algorithm.adv_estimator: {estimator} needs a critic, which the "
            f"backbone {ajet.backbone} does not have; use the backbone {able}, or an estimator "
            "without a critic such as grpo"
        )
    rollout = ajet.rollout
    is_enforced = ajet.backbone == FALLBACK and rollout.name == "embedded"
    if rollout.response_format == "constrain" and entry.trains and not is_enforced:
        raise ConfigError(
            "ajet.rollout.response_format: constrain needs the backbone local with the engine "
            "embedded: other trainers cannot compute the logprobs again that an engine gives under "
            "a schema; use prompt"
        )
    if entry.refuse:
        imported(entry.refuse)(ajet)


def imported(path: str) -> Any:
    """The function that a registry entry names as `module->function`."""
    module, _, name = path.partition("->")
    return getattr(import_module(module), name)
