"""Which Ray cluster a run uses: its own, an existing one, or none."""

from __future__ import annotations

import importlib.util
import os
import socket
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from ajet.config.backbones import backbone_entry
from ajet.config.sections.root import AjetConfig
from ajet.errors import ConfigError, MissingExtraError
from ajet.launcher.backbones import check_libraries, imported
from ajet.launcher.ray_cluster import RayContext, RaySize, joined_ray, own_ray


@dataclass(slots=True, kw_only=True, frozen=True)
class RayChoice:
    """The Ray cluster that the user asked for; by default only what the backbone needs."""

    own: bool = False
    """Start a Ray for this run."""
    num_gpus: int | None = None
    """Logical GPUs of the Ray that is started; None: what the backbone needs, or what the machine
    has."""
    join: bool = False
    """Join the Ray at `address`."""
    address: str | None = None
    """`HOST:PORT` of the Ray to join; None: RAY_ADDRESS."""


def ray_for_run(ajet: AjetConfig, choice: RayChoice) -> AbstractContextManager[RayContext | None]:
    """The Ray that the user asked for, or the one that the backbone needs.

    A backbone that needs Ray gets the one at RAY_ADDRESS, or else one of its own. Enter the
    context before the user's code is imported: Ray reads its environment variables at import.

    Raises:
        AjetError: there is no such Ray, or none can be started.
    """
    needs_ray = backbone_entry(ajet.backbone).ray_needs is not None
    if not (needs_ray or choice.own or choice.join):
        return nullcontext()
    if needs_ray:
        check_libraries(ajet.backbone)
    elif importlib.util.find_spec("ray") is None:
        raise MissingExtraError("ray", "ray")
    address = choice.address or os.environ.get("RAY_ADDRESS", "")
    if choice.join or (address and not choice.own):
        if needs_ray and address.startswith("ray://"):
            raise ConfigError(
                f"{address} is a client's address, and the backbone {ajet.backbone} must run on a "
                "node of the cluster; start it on a node, with HOST:PORT as the address"
            )
        return joined_ray(choice.address or (None if address else _address_of_job()))
    return own_ray(_size(ajet, choice.num_gpus) if needs_ray else RaySize(num_gpus=choice.num_gpus))


def _size(ajet: AjetConfig, num_gpus: int | None) -> RaySize:
    """The size of a Ray for this backbone.

    CPUs are always logical: Ray may have more than the machine. GPUs are logical only on a machine
    that has none; otherwise Ray counts them itself.
    """
    # Not at the top: it loads the chat formats, which a run without Ray does not need here.
    from ajet.training.model_folder import device_of

    device = device_of(ajet.model.device)
    needs_of = backbone_entry(ajet.backbone).ray_needs
    assert needs_of is not None, f"the backbone {ajet.backbone} uses no Ray"
    needs = imported(needs_of)(ajet, device)
    if num_gpus is None and device == "cpu":
        num_gpus = needs.gpus
    return RaySize(num_gpus=num_gpus, num_cpus=max(needs.cpus, os.cpu_count() or 1))


def _address_of_job() -> str | None:
    """MASTER_ADDR:MASTER_PORT, which schedulers of multi-node jobs set on every node; or None.

    Raises:
        ConfigError: this is not the first node of the job.
    """
    master, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if not master or not port:
        return None
    if os.environ.get("HOSTNAME", socket.gethostname()) != master:
        raise ConfigError(
            f"--with-ray-cluster: a run starts on MASTER_ADDR, {master}, and only there; on this "
            f"node run  ray start --address={master}:{port} --block"
        )
    return f"{master}:{port}"
