"""Gathers the facts for `ajet doctor`. The network is used only with `--online`."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path

from ajet.diagnostics.doctor import Facts
from ajet.diagnostics.machine import this_machine
from ajet.diagnostics.packages import installed
from ajet.diagnostics.torch_facts import ask_torch

HUB_TIMEOUT_S = 10.0


def gather(run_folder: Path, *, online: bool) -> Facts:
    """Gather the facts of this machine and environment.

    Args:
        run_folder: folder in which run folders are made; it need not exist.
        online: also check whether the model hub can be reached.
    """
    have = installed()
    facts = Facts(
        machine=this_machine(run_folder),
        python=sys.version_info[:3],
        installed=have,
        requires=metadata.requires("agentjet") or [],
        torch=ask_torch() if "torch" in have else None,
        has_nvidia_device=Path("/dev/nvidiactl").exists(),
        has_ray_token=Path("~/.ray/auth_token").expanduser().exists(),
        is_hub_asked=online,
    )
    if online:
        from huggingface_hub.constants import ENDPOINT

        facts.hub, facts.hub_error = ENDPOINT, _error_of(ENDPOINT)
    return facts


def _error_of(address: str) -> str | None:
    """Why an address does not answer, or None if it does; an error page counts as an answer."""
    try:
        with urllib.request.urlopen(address, timeout=HUB_TIMEOUT_S):
            return None
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        return str(getattr(error, "reason", error))
