"""The registry of backbones: one entry holds everything the other packages know about a backbone.

An entry contains names and flags only, so reading a configuration imports no backbone. To add a
backbone, write its package and add one entry to `BACKBONES`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from ajet.config.sections.algorithm import AlgorithmConfig
from ajet.config.sections.trainer_common import TrainerCommonConfig


@dataclass(slots=True, kw_only=True, frozen=True)
class BackboneEntry:
    """What the other packages know about one backbone.

    The defaults suit a backbone that is one process and is named by a class path.
    """

    run: str
    """`module->function` of the function that `ajet.training.protocols.Run` describes."""
    summary: str = ""
    """What the backbone is for, in a few words; `ajet doctor` shows it next to the extra."""
    refuse: str | None = None
    """`module->function`: called with the `ajet` section before anything starts, it raises
    ConfigError for settings that the backbone cannot honour. It must import no heavy library."""
    extra: str | None = None
    """The extra of AgentJet that installs the libraries of this backbone."""
    libraries: tuple[str, ...] = ()
    """Modules that must be importable; checked before a Ray cluster or the backbone starts."""
    ray_needs: str | None = None
    """`module->function`: from the `ajet` section and the device to `RayNeeds`. None: the backbone
    is one process and uses no Ray."""
    section: str | None = None
    """The section under `ajet:` that only this backbone reads."""
    ignored: tuple[str, ...] = ()
    """Settings under `ajet` that have no effect with this backbone."""
    default_with: str | None = None
    """The distribution whose presence makes this the default backbone."""
    brings_engine: bool = False
    """The backbone starts vLLM itself, so `rollout.name` has no effect."""
    trains: bool = True
    """False: the backbone only runs the workflow. It saves no checkpoint, so nothing resumes."""
    has_critic: bool = False
    """The backbone can train a critic, which the advantage estimator `gae` needs."""
    trainer: Literal["local", "verl"] | None = None
    """Whose trainer updates the weights. `ajet replay` can repeat the updates of these two."""


FALLBACK = "local"
"""The default backbone where no entry's `default_with` is installed."""

ONLY_LOCAL = ("share_prefixes", "branch_cost", "gradient_checkpointing", "fused_loss")
"""Settings under `trainer_common` of the local trainer; verl has settings of its own for such."""

BACKBONES = {
    "local": BackboneEntry(
        run="ajet.backbone.local.entry->run",
        summary="training and serving in one process",
        extra="local",
        libraries=("torch", "transformers"),
        ignored=(
            "rollout.ray_actors",
            "trainer_common.n_gpus_per_node",
            "trainer_common.nnodes",
        ),
        trainer="local",
    ),
    "debug": BackboneEntry(
        run="ajet.backbone.debug.entry->run",
        section="debug",
        ignored=(
            "lora",
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
            "task_reader.curriculum",
            "task_runner.isolation",
            "task_runner.process_memory_mb",
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
        ),
        trains=False,
    ),
    "verl": BackboneEntry(
        run="ajet.backbone.verl.entry->run",
        summary="the backbone verl",
        refuse="ajet.backbone.verl.refusals->refuse",
        extra="verl",
        libraries=("ray", "verl", "transfer_queue", "vllm"),
        ray_needs="ajet.backbone.ray_common.resources->verl_needs",
        section="verl",
        ignored=(
            "rollout.lockstep_patience_s",
            "rollout.name",
            "rollout.schedule",
            "rollout.vllm.python",
            *(f"trainer_common.{name}" for name in ONLY_LOCAL),
        ),
        brings_engine=True,
        has_critic=True,
        trainer="verl",
    ),
    "trinity": BackboneEntry(
        run="ajet.backbone.trinity.entry->run",
        summary="the backbone trinity",
        refuse="ajet.backbone.trinity.refusals->refuse",
        extra="trinity",
        libraries=("ray", "trinity", "vllm"),
        ray_needs="ajet.backbone.ray_common.resources->trinity_needs",
        section="trinity",
        ignored=(
            "rollout.lockstep_patience_s",
            "rollout.name",
            "rollout.ray_actors",
            "rollout.schedule",
            "rollout.vllm.python",
            *(f"trainer_common.{name}" for name in ONLY_LOCAL),
        ),
        default_with="trinity-rft",
        brings_engine=True,
        trainer="verl",
    ),
}
"""`ajet.backbone` -> its entry, in the order of the help texts."""


def backbone_entry(name: str) -> BackboneEntry:
    """The registered entry, or a default entry for a user's `module->function`."""
    return BACKBONES.get(name) or BackboneEntry(run=name)


def default_backbone() -> str:
    """The backbone of a configuration that names none."""
    for name, entry in BACKBONES.items():
        if entry.default_with and _is_installed(entry.default_with):
            return name
    return FALLBACK


def settings_without_effect(name: str) -> Iterable[str]:
    """Settings under `ajet` that a backbone ignores, the sections of other backbones included.

    Nothing is known about a user's own backbone, so none is reported for it.
    """
    if name not in BACKBONES:
        return ()
    sections = [entry.section for other, entry in BACKBONES.items() if other != name]
    return sorted([*BACKBONES[name].ignored, *filter(None, sections)])


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
