"""How large a Ray a run needs. Ray is not imported here."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.sections.root import AjetConfig

CPUS_PER_RANK = 3
"""As verl reserves them."""
CPUS_BESIDE = 4
"""For its queue, and for what starts a server."""


@dataclass(slots=True, kw_only=True, frozen=True)
class RayNeeds:
    """Logical resources of all nodes together."""

    gpus: int
    """Where there is no hardware, places for what would have one."""
    cpus: int


def ray_needs(ajet: AjetConfig, device: str) -> RayNeeds:
    """Of a run with verl or Trinity-RFT.

    Args:
        ajet: its configuration.
        device: `cpu` or `cuda`.
    """
    common = ajet.trainer_common
    per_node = common.n_gpus_per_node
    if ajet.backbone == "trinity" and device == "cpu":  # engines beside a rank of the trainer
        per_node = max(per_node, ajet.rollout.vllm.num_engines + 1)
    gpus = per_node * common.nnodes
    actors = ajet.rollout.ray_actors if ajet.backbone == "verl" else 0
    return RayNeeds(gpus=gpus, cpus=CPUS_BESIDE + CPUS_PER_RANK * gpus + actors)
