"""The worker of a rank: Trinity's, with the learning rate that the run's schedule says."""

from __future__ import annotations

from trinity.trainer.verl.workers import TrinityActorRolloutRefWorker
from verl.single_controller.base.decorator import Dispatch, register

from ajet.backbone.verl_common.worker import VerlPolicyWorker


class TrinityPolicyWorker(VerlPolicyWorker, TrinityActorRolloutRefWorker):
    """Both Trinity's and the verl backbone's."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def save_policy(self, folder: str) -> None:
        """Write model and optimizer, without Trinity's bookkeeping."""
        self.actor.save_checkpoint(folder)
