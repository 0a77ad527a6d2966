"""Warnings about settings that have no effect or a surprising one; a run logs each once."""

from __future__ import annotations

from ajet.config.backbones import backbone_entry, settings_without_effect
from ajet.config.sections.rollout import RolloutConfig
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.config.sections.section import BaseConfig


def hints(ajet: AjetConfig) -> list[str]:
    """One line for each setting without effect, or with another effect than its name suggests."""
    policy = ajet.context_tracker.timeline_merging_policy
    key = "ajet.context_tracker.timeline_merging_policy"
    lines = []
    if policy.timeline_compare_level == "text":
        lines.append(
            f'{key}.timeline_compare_level: "text" means the same as "token": calls are merged if '
            "their token ids are equal"
        )
    if policy.ignore_tools:
        lines.append(
            f"{key}.ignore_tools has no effect: calls with different tools have different token "
            "ids, so they are never merged"
        )
    common = ajet.trainer_common
    if "critic" in common.model_fields_set and common.algorithm.adv_estimator != "gae":
        lines.append("ajet.trainer_common.critic has no effect without algorithm.adv_estimator=gae")
    runner = ajet.task_runner
    if "process_memory_mb" in runner.model_fields_set and runner.isolation != "process":
        lines.append("ajet.task_runner.process_memory_mb has no effect without isolation: process")
    if runner.isolation == "process" and ajet.rollout.ray_actors and ajet.backbone == "verl":
        lines.append(
            "ajet.task_runner.isolation has no effect with rollout.ray_actors: the actors are "
            "processes that run many episodes each"
        )
    if backbone_entry(ajet.backbone).brings_engine:
        return lines
    return [*lines, *_of_the_engine(ajet.rollout)]


def _of_the_engine(rollout: RolloutConfig) -> list[str]:
    """One line for each given setting that the chosen engine ignores."""
    idle = {"embedded": ["vllm"], "vllm": ["schedule", "lockstep_patience_s"]}[rollout.name]
    lines = [
        f"ajet.rollout.{key} has no effect with the engine {rollout.name}"
        for key in idle
        if key in rollout.model_fields_set
    ]
    if rollout.name == "vllm" and rollout.vllm.base_url:
        own = ("python", "num_engines", "options", "kv_cache_gb", "start_timeout_s")
        lines += [
            f"ajet.rollout.vllm.{key} has no effect on servers that already run"
            for key in own
            if key in rollout.vllm.model_fields_set
        ]
    return lines


def ignored_settings(config: RootConfig, backbone: str) -> list[str]:
    """Settings with a non-default value that this backbone ignores."""
    paths = settings_without_effect(backbone)
    return [f"ajet.{path}" for path in paths if not _is_default(config.ajet, path)]


def _is_default(section: BaseConfig, path: str) -> bool:
    *parents, name = path.split(".")
    for parent in parents:
        section = getattr(section, parent)
    default = type(section).model_fields[name].get_default(call_default_factory=True)
    return bool(getattr(section, name) == default)
