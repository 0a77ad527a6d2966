"""What a run should say once about settings that mean something else than they seem to."""

from __future__ import annotations

from ajet.config.sections.rollout import RolloutConfig
from ajet.config.sections.root import AjetConfig


def hints(ajet: AjetConfig) -> list[str]:
    """One line a setting."""
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
    if ajet.backbone in ("verl", "trinity"):  # these bring their engine
        return lines
    return [*lines, *_of_the_engine(ajet.rollout)]


def _of_the_engine(rollout: RolloutConfig) -> list[str]:
    """Settings that were given, and that the chosen engine does not have."""
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
