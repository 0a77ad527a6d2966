"""Asks torch in a child process, because importing torch takes seconds and may crash."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ajet.config.sections.root import AjetConfig
from ajet.errors import MissingExtraError, ModelError

TIMEOUT_S = 60.0

_SCRIPT = """
import json, torch
gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda or torch.version.hip,
    "gpus": [[gpu.name, gpu.total_memory] for gpu in gpus],
}))
"""


@dataclass(slots=True, kw_only=True, frozen=True)
class TorchFacts:
    """What an installed torch reports about itself and the GPUs."""

    version: str = ""
    cuda: str | None = None
    """The CUDA or ROCm version that torch is built for; None: a build for CPUs."""
    gpus: list[tuple[str, int]] = field(default_factory=list)
    """Name and memory in bytes of each GPU that torch can use."""
    error: str | None = None
    """Why torch cannot be imported; None: it can."""
    is_slow: bool = False
    """The import was given up. That says nothing against torch: on a busy machine, the first import
    after an installation takes minutes."""


def ask_torch(timeout_s: float = TIMEOUT_S) -> TorchFacts:
    """Import torch in a child process; a failure or a crash there is returned as an error."""
    command = [sys.executable, "-c", _SCRIPT]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        error = f"the import took more than {timeout_s:.0f} s"
        return TorchFacts(error=error, is_slow=True)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or [f"exit code {ended.returncode}"]
        return TorchFacts(error=last[0])
    answer = json.loads(ended.stdout.splitlines()[-1])
    return TorchFacts(
        version=answer["version"],
        cuda=answer["cuda"],
        gpus=[(name, size) for name, size in answer["gpus"]],
    )


_LOADING_SCRIPT = """
import json, sys
from pathlib import Path
folder, attention, length, is_served, lora = json.loads(sys.argv[1])
try:
    from ajet.engine.embedded.load import check_loading
    from ajet.errors import MissingExtraError, ModelError
except ModuleNotFoundError as error:
    if error.name not in ("torch", "transformers"):
        raise
    print(json.dumps({"missing": error.name}))
else:
    try:
        model = check_loading(Path(folder), attention, length, is_served=is_served)
        if model is not None and lora["lora_rank"]:
            from ajet.backbone.local.adapter import add_adapter
            from ajet.config.sections.model import LoraConfig
            add_adapter(model, LoraConfig(**lora), seed=0)
        print(json.dumps({}))
    except (MissingExtraError, ModelError) as error:
        print(json.dumps({"refused": str(error)}))
"""


def ask_loading(folder: Path, ajet: AjetConfig, *, is_served: bool) -> None:
    """Run `check_loading` of the embedded engine in a child process, and look for LoRA's layers.

    Args:
        folder: the model's folder.
        ajet: how the model is loaded, and whether an adapter is trained.
        is_served: whether the embedded engine serves it.

    Raises:
        ModelError: the model cannot be loaded, the embedded engine cannot serve it, or it does not
            have the layers of `ajet.lora`.
        MissingExtraError: torch or transformers is not installed.
    """
    arguments = json.dumps(
        [
            str(folder),
            ajet.model.attn_implementation,
            ajet.rollout.max_model_len,
            is_served,
            ajet.lora.model_dump(),
        ]
    )
    command = [sys.executable, "-P", "-W", "ignore", "-c", _LOADING_SCRIPT, arguments]
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or [f"exit code {ended.returncode}"]
        raise ModelError(f"{folder}: cannot be loaded: {last[0]}")
    answer = json.loads(ended.stdout.splitlines()[-1])
    if "missing" in answer:
        raise MissingExtraError(answer["missing"], "local")
    if "refused" in answer:
        raise ModelError(answer["refused"])
