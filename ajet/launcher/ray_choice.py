"""Which Ray a run is on: one of its own, one that is there, or none."""

from __future__ import annotations

import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from ajet.backbone.ray_common.resources import ray_needs
from ajet.config.sections.root import AjetConfig
from ajet.errors import ConfigError, MissingExtraError
from ajet.launcher.ray_cluster import RayContext, RaySize, joined_ray, own_ray

IN_ONE_PROCESS = ("local", "debug")
"""Backbones that use no Ray: with them, it is for the user's code."""
LIBRARIES = {
    "verl": ("ray", "verl", "transfer_queue", "vllm"),
    "trinity": ("ray", "trinity", "vllm"),
}
"""What the others need: it is looked for before a Ray is started."""


@dataclass(slots=True, kw_only=True, frozen=True)
class RayChoice:
    """What the user asked for; nothing: only what the backbone needs."""

    own: bool = False
    """Start one."""
    num_gpus: int | None = None
    """Its logical GPUs; None is what the backbone needs, or what the machine has."""
    join: bool = False
    """Join the one at `address`."""
    address: str | None = None
    """`HOST:PORT`; None is RAY_ADDRESS."""


def ray_for_run(ajet: AjetConfig, choice: RayChoice) -> AbstractContextManager[RayContext | None]:
    """What the user asked for; else, where the backbone needs a Ray, RAY_ADDRESS or one of its own.

    Enter it before the user's code is imported.

    Raises:
        AjetError: there is none, or none can be started.
    """
    needs_ray = ajet.backbone not in IN_ONE_PROCESS
    if not (needs_ray or choice.own or choice.join):
        return nullcontext()
    for library in LIBRARIES.get(ajet.backbone, ("ray",)):
        if importlib.util.find_spec(library) is None:
            raise MissingExtraError(library, ajet.backbone if needs_ray else "ray")
    there = choice.address or os.environ.get("RAY_ADDRESS", "")
    if choice.join or (there and not choice.own):
        if needs_ray and there.startswith("ray://"):
            raise ConfigError(
                f"{there}: the backbone {ajet.backbone} must run on a node of the cluster itself, "
                "not on a client of it; start it there, with HOST:PORT"
            )
        return joined_ray(choice.address)
    return own_ray(_size(ajet, choice.num_gpus) if needs_ray else RaySize(num_gpus=choice.num_gpus))


def _size(ajet: AjetConfig, num_gpus: int | None) -> RaySize:
    """Logical CPUs are told, whatever the machine has; GPUs where it has none."""
    # Not at the top: it loads the chat formats, which a run without Ray does not need here.
    from ajet.training.model_folder import device_of

    device = device_of(ajet.model.device)
    needs = ray_needs(ajet, device)
    if num_gpus is None and device == "cpu":
        num_gpus = needs.gpus
    return RaySize(num_gpus=num_gpus, num_cpus=max(needs.cpus, os.cpu_count() or 1))
