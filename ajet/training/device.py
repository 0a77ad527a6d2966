"""Where the model is computed."""

from __future__ import annotations


def device_of(name: str) -> str:
    """What `ajet.model.device` stands for here: `cpu` or `cuda`."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
