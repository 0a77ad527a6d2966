"""Settings that a backbone does not honour, so that none is ignored in silence."""

from __future__ import annotations

from ajet.config.sections.algorithm import AlgorithmConfig
from ajet.config.sections.root import RootConfig
from ajet.config.sections.section import BaseConfig
from ajet.config.sections.trainer_common import TrainerCommonConfig

IGNORED = {
    "debug": (
        "data.train_batch_size",
        "data.shuffle",
        "rollout.num_repeat",
        "rollout.max_env_worker",
        "rollout.call_timeout_s",
        "rollout.episode_timeout_s",
        "rollout.max_retries",
        "rollout.max_failure_share",
        "rollout.dynamic_sampling",
        "rollout.ray_actors",
        "rollout.schedule",
        "rollout.lockstep_patience_s",
        "rollout.validation",
        *(
            f"trainer_common.{name}"
            for name in TrainerCommonConfig.model_fields
            if name not in ("seed", "algorithm")
        ),
        *(
            f"trainer_common.algorithm.{name}"
            for name in AlgorithmConfig.model_fields
            if name != "adv_estimator"
        ),
        "trinity",
        "verl",
    ),
    "local": (
        "debug",
        "rollout.ray_actors",
        "trainer_common.n_gpus_per_node",
        "trainer_common.nnodes",
        "trinity",
        "verl",
    ),
    "trinity": (
        "debug",
        "rollout.lockstep_patience_s",
        "rollout.name",
        "rollout.ray_actors",
        "rollout.schedule",
        "rollout.vllm.python",
        "verl",
    ),
    "verl": (
        "debug",
        "rollout.lockstep_patience_s",
        "rollout.name",
        "rollout.schedule",
        "rollout.vllm.python",
        "trinity",
    ),
}
"""For each backbone, the settings under `ajet` that change nothing there."""


def ignored_settings(config: RootConfig, backbone: str) -> list[str]:
    """The settings that were given another value than the default and have no effect."""
    return [f"ajet.{path}" for path in IGNORED[backbone] if not _is_default(config.ajet, path)]


def _is_default(section: BaseConfig, path: str) -> bool:
    *parents, name = path.split(".")
    for parent in parents:
        section = getattr(section, parent)
    default = type(section).model_fields[name].get_default(call_default_factory=True)
    return bool(getattr(section, name) == default)
