"""The command with engines that only say that they took new weights: the negative control."""

from __future__ import annotations

from typing import Any

import trinity.common.models.vllm_model as of_trinity

from ajet.backbone.trinity.cpu.model import CpuPolicyModel
from ajet.backbone.trinity.explorer import PolicyExplorer


class ForgetfulModel(CpuPolicyModel):
    """Takes a version's number, not its weights."""

    async def sync_model_weights(self, model_version: int, *_: Any, **__: Any) -> int:
        """Everything is green."""
        self.model_version = model_version
        return model_version


class ForgetfulExplorer(PolicyExplorer):
    """Starts such engines."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        of_trinity.vLLMRolloutModel = ForgetfulModel


def main() -> None:
    """`ajet`, with that explorer."""
    from ajet.backbone.trinity import starting
    from ajet.cli import main as ajet

    starting.PolicyExplorer = ForgetfulExplorer
    ajet()


if __name__ == "__main__":
    from tests.trinity.skipped_sync import main as by_its_name  # as the actors will import it

    by_its_name()
