"""The class of Trinity's training ranks."""

from __future__ import annotations

from trinity.trainer.verl.workers import TrinityActorRolloutRefWorker
from verl.single_controller.base.decorator import Dispatch, register

from ajet.backbone.verl_common.worker import VerlPolicyWorker


class TrinityPolicyWorker(VerlPolicyWorker, TrinityActorRolloutRefWorker):
    """Trinity's worker with AgentJet's learning rate schedule and checkpoints."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def save_policy(self, folder: str) -> None:
        """Write model and optimizer, without Trinity's own record of checkpoints."""
        self.actor.save_checkpoint(folder)
