"""How large a Ray cluster a run needs. This module does not import Ray."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.sections.root import AjetConfig

CPUS_PER_RANK = 3
"""Logical CPUs that verl reserves for each rank."""
EXTRA_CPUS = 4
"""Logical CPUs for verl's queue and for the actors that start the servers."""


@dataclass(slots=True, kw_only=True, frozen=True)
class RayNeeds:
    """Logical resources of all nodes together."""

    gpus: int
    """Without GPUs: logical slots for the processes that would each have one."""
    cpus: int


def verl_needs(ajet: AjetConfig, device: str) -> RayNeeds:
    """The resources that a run with the verl backbone needs.

    Args:
        ajet: the configuration of the run.
        device: `cpu` or `cuda`.
    """
    return _needs(ajet, ajet.trainer_common.n_gpus_per_node, ajet.rollout.ray_actors)


def trinity_needs(ajet: AjetConfig, device: str) -> RayNeeds:
    """The resources that a run with the Trinity backbone needs.

    Args:
        ajet: the configuration of the run.
        device: `cpu` or `cuda`.
    """
    per_node = ajet.trainer_common.n_gpus_per_node
    if device == "cpu":
        # Trinity places its engines and the trainer's ranks on different GPUs. Without GPUs these
        # are logical, so a node has one for each engine and one for a rank.
        per_node = max(per_node, ajet.rollout.vllm.num_engines + 1)
    return _needs(ajet, per_node, 0)


def _needs(ajet: AjetConfig, gpus_per_node: int, num_actors: int) -> RayNeeds:
    gpus = gpus_per_node * ajet.trainer_common.nnodes
    return RayNeeds(gpus=gpus, cpus=EXTRA_CPUS + CPUS_PER_RANK * gpus + num_actors)
