"""Settings that have no effect, or another effect than they seem to: a run names each once."""

from __future__ import annotations

from ajet.config.backbones import backbone_entry, settings_without_effect
from ajet.config.sections.rollout import RolloutConfig
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.config.sections.section import BaseConfig


def hints(ajet: AjetConfig) -> list[str]:
    """One line for each setting that means something else than it seems to."""
    policy = ajet.context_tracker.timeline_merging_policy
    key = "ajet.context_tracker.timeline_merging_policy"
    lines = []
    if policy.timeline_compare_level == "text":
        lines.append(
            f'{key}.timeline_compare_level: "text" now means the same as "token": calls are merged '
            "where their token ids are equal, and what was sampled is trained as it was"
        )
    if policy.ignore_tools:
        lines.append(
            f"{key}.ignore_tools: calls with other tools have other token ids, so they are never "
            "one timeline"
        )
    common = ajet.trainer_common
    if "critic" in common.model_fields_set and common.algorithm.adv_estimator != "gae":
        lines.append("ajet.trainer_common.critic has no effect without algorithm.adv_estimator=gae")
    if backbone_entry(ajet.backbone).brings_engine:
        return lines
    return [*lines, *_of_the_engine(ajet.rollout)]


def _of_the_engine(rollout: RolloutConfig) -> list[str]:
    """Settings that were given although the chosen engine does not have them."""
    idle = {"embedded": ["vllm"], "vllm": ["schedule", "lockstep_patience_s"]}[rollout.name]
    lines = [
        f"ajet.rollout.{key} has no effect with the engine {rollout.name}"
        for key in idle
        if key in rollout.model_fields_set
    ]
    if rollout.name == "vllm" and rollout.vllm.base_url:
        own = ("python", "num_engines", "options", "kv_cache_gb", "start_timeout_s")
        lines += [
            f"ajet.rollout.vllm.{key} has no effect on servers that are there already"
            for key in own
            if key in rollout.vllm.model_fields_set
        ]
    return lines


def ignored_settings(config: RootConfig, backbone: str) -> list[str]:
    """Settings that have no effect with this backbone, although their value is not the default."""
    paths = settings_without_effect(backbone)
    return [f"ajet.{path}" for path in paths if not _is_default(config.ajet, path)]


def _is_default(section: BaseConfig, path: str) -> bool:
    *parents, name = path.split(".")
    for parent in parents:
        section = getattr(section, parent)
    default = type(section).model_fields[name].get_default(call_default_factory=True)
    return bool(getattr(section, name) == default)
