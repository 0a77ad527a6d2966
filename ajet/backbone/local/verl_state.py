"""Assembles the optimizer state of a verl run from the shards that its ranks saved."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Shard

from ajet.errors import CheckpointError


def verl_optimizer_state(checkpoint: Path) -> dict[str, Any]:
    """The state in the form that `PolicyOptimizer.load_state_dict` takes.

    Args:
        checkpoint: of a verl run; its folder `actor` has each rank's shard of AdamW.

    Raises:
        CheckpointError: shards are missing, or are not sharded as FSDP2 does.
    """
    # It warns that there is no process group; unpickling the shards needs none.
    logging.getLogger("torch.distributed.device_mesh").setLevel(logging.ERROR)
    found = {
        int(match[2]): path
        for path in (checkpoint / "actor").glob("optim_world_size_*_rank_*.pt")
        if (match := re.search(r"size_(\d+)_rank_(\d+)", path.name))
    }
    parts = [_load(found[rank]) for rank in sorted(found)]
    if not parts or f"optim_world_size_{len(parts)}_rank_0.pt" != found[0].name:
        raise CheckpointError(
            f"{checkpoint / 'actor'}: the optimizer shards of some ranks are missing"
        )
    first = parts[0]
    state = {
        number: {
            name: _whole([part["state"][number][name] for part in parts], checkpoint)
            for name in first["state"][number]
        }
        for number in first["state"]
    }
    return {"adamw": {"state": state, "param_groups": first["param_groups"]}, "masters": []}


def _load(path: Path) -> dict[str, Any]:
    part: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    return part


def _whole(parts: list[torch.Tensor], checkpoint: Path) -> torch.Tensor:
    """Join the shards of one tensor; a tensor that every rank has whole is returned as it is."""
    sharded = [part for part in parts if isinstance(part, DTensor)]
    if not sharded:
        return parts[0]
    placements = {part.placements for part in sharded}
    (placement, *others) = sharded[0].placements
    if len(placements) != 1 or others or not isinstance(placement, Shard):
        raise CheckpointError(
            f"{checkpoint / 'actor'}: unexpected sharding; expected FSDP2's Shard on one dimension"
        )
    return torch.cat([part.to_local() for part in sharded], dim=placement.dim)
